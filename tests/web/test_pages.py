"""Pages: their words in both languages, what a viewer sees of ids, and that they hold nothing that the policy forbids."""

from __future__ import annotations

import ast
import asyncio
import re
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import streams.web.pages
from streams.language.console_words import WORDS, language_of, words
from streams.language.masking import mask
from streams.web.services.masking import Masks
from streams.web.signin.people import Person
from tests.web.conftest import Store
from tests.web.people import hash_cheaply, hire_staff, sign_in

FOLDER = Path(streams.web.pages.__file__).parent
TEMPLATES = sorted((FOLDER / "templates").glob("*.html"))
VIC, LIN = Person("vic", "viewer"), Person("lin", "agent")


@pytest.fixture
def browse(talking: Any, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    hash_cheaply(monkeypatch)
    hire_staff(tmp_path)

    def run(work: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
        async def connected() -> Any:
            async with talking(headers={"Accept": "text/html"}) as client:
                return await work(client)

        return asyncio.run(connected())

    return run


# ------------------------------------------------------------ words
def used_keys() -> set[str]:
    """Every key that a template or a module names: `t("key")`, keys made of a prefix and a value, and strings that are
    keys.
    """
    found = set()
    for template in TEMPLATES:
        text = template.read_text("utf-8")
        found |= set(re.findall(r"""\bt\(["'](\w+)["'][,)]""", text))
        for family in re.findall(r"""\bt\(["'](\w+_)["'] ~""", text):
            found |= {key for key in WORDS if key.startswith(family)}
        for listed in re.findall(r"for key in \(([^)]*)\)", text):
            found |= set(re.findall(r'"(\w+)"', listed))
    for module in FOLDER.parent.rglob("*.py"):
        if module.name != "words.py":
            strings = (
                node.value for node in ast.walk(ast.parse(module.read_text("utf-8"))) if isinstance(node, ast.Constant)
            )
            found |= {one for one in strings if isinstance(one, str) and one in WORDS}
    return found


def test_the_table_has_every_used_word_and_no_unused_one() -> None:
    assert used_keys() == set(WORDS)


def test_every_word_is_in_both_languages_with_the_same_placeholders() -> None:
    for key, (english, chinese) in WORDS.items():
        assert english and chinese, key
        assert set(re.findall(r"{(\w+)}", english)) == set(re.findall(r"{(\w+)}", chinese)), key
    with pytest.raises(KeyError):
        words("en")("no such key")


@pytest.mark.parametrize(
    ("chosen", "accepted", "language"),
    [
        (None, "zh-CN,zh;q=0.9,en;q=0.8", "zh"), (None, "en-GB,zh;q=0.5", "en"), ("zh", "en", "zh"), ("fr", "zh", "zh"),
        (None, "fr", "en"), (None, "zh;q=0, en;q=0.1", "en"), (None, "zh;q=nonsense", "en"), (None, None, "en"),
    ],
)  # fmt: skip
def test_the_language_is_the_chosen_one_or_the_best_accepted_one(
    chosen: str | None, accepted: str | None, language: str
) -> None:
    assert language_of(chosen, accepted) == language


def test_a_page_is_in_the_browser_s_language_until_it_is_switched(browse: Any) -> None:
    async def look(client: Any) -> None:
        client.headers["Accept-Language"] = "zh-CN"
        page = await client.get("/signin")
        assert 'lang="zh-Hans"' in page.text and "登录" in page.text
        switched = await client.get("/signin?lang=en")
        assert '<html lang="en">' in switched.text
        assert '<html lang="en">' in (await client.get("/signin")).text

    browse(look)


# ------------------------------------------------------------ masked ids
@pytest.mark.parametrize(
    ("id", "masked"),
    [
        ("customer-1542", "cu•••42"),
        ("c00042", "c0•••42"),
        ("10042", "•••42"),
        ("1542", "•••"),
        ("1", "•••"),
        ("客户一二三四", "客户•••三四"),
    ],
)
def test_only_the_ends_of_a_masked_id_are_readable(id: str, masked: str) -> None:
    assert mask(id) == masked


@pytest.fixture
def masks(store: Store, server: Any) -> Masks:
    from redis.asyncio import Redis

    async def ready() -> Masks:
        redis = Redis.from_url(server.url)
        found, other = Masks(redis, "p:"), Masks(redis, "p:")
        await asyncio.gather(found.ready(), other.ready())
        assert other.reference(VIC, "ada") == found.reference(VIC, "ada")  # two consoles, one key
        await redis.aclose()
        return found

    return asyncio.run(ready())


def test_a_viewer_s_reference_is_stable_reveals_no_id_and_leads_back(masks: Masks) -> None:
    for id in ("ada", "c0042", "with/slash", "~odd", "客户"):
        reference = masks.reference(VIC, id)
        assert reference == masks.reference(VIC, id)
        assert id not in reference and re.fullmatch(r"~[\w-]+", reference)
        assert masks.customer_of(VIC, reference) == id
        assert masks.customer_of(LIN, masks.reference(LIN, id)) == id
    assert masks.reference(LIN, "ada") == "ada"


def test_a_viewer_can_t_look_up_a_customer_by_id_or_a_made_up_reference(masks: Masks) -> None:
    good = masks.reference(VIC, "ada")
    changed = good[:3] + ("A" if good[3] != "A" else "B") + good[4:]
    for reference in ("ada", "~", "~ada", "~!!", "~é", good[:-2], good + "AAAA", changed):
        assert masks.customer_of(VIC, reference) is None


def test_a_viewer_sees_a_customer_s_page_without_the_id(browse: Any, store: Store) -> None:
    store.customer("customer-1542")

    async def look(client: Any) -> None:
        await sign_in(client, "lin")
        agents = await client.get("/customers/customer-1542")
        assert agents.status_code == 200 and "customer-1542" in agents.text
        await sign_in(client, "vic")
        assert (await client.get("/customers/customer-1542")).status_code == 404
        from streams.web.services.container import Services

        here: Services = client.app.state.services
        page = await client.get("/customers/" + here.masks.reference(VIC, "customer-1542"))
        assert page.status_code == 200
        assert "cu•••42" in page.text and "customer-1542" not in page.text

    browse(look)


def test_an_unknown_customer_has_a_page_that_says_so(browse: Any) -> None:
    async def look(client: Any) -> None:
        await sign_in(client, "lin")
        answer = await client.get("/customers/nobody")
        assert answer.status_code == 404 and "This customer is not known." in answer.text
        missing = await client.get("/no/such/page")
        assert missing.status_code == 404 and "This page does not exist." in missing.text

    browse(look)


# ------------------------------------------------------------ templates and style
@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_a_template_has_nothing_that_its_security_policy_forbids(template: Path) -> None:
    text = template.read_text("utf-8")
    assert not re.search(r"<script(?![^>]*\ssrc=\"/static/)", text)
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|\|\s*safe", text)
    assert not re.search(r"(?:src|href|action)=\"(?!/|#|\?|{)", text)


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def themes() -> list[dict[str, str]]:
    """The colours of each block of the style sheet that sets them."""
    text = (FOLDER / "static" / "console.css").read_text("utf-8")
    blocks = re.findall(r":root[^{]*{([^}]*)}", text)
    return [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in blocks]


def test_text_has_enough_contrast_in_light_and_dark() -> None:
    light, chosen, by_system = themes()
    assert chosen == by_system
    for theme in (light, chosen):
        for text in ("text", "muted", "accent", "danger", "warning", "good"):
            for ground in ("ground", "surface"):
                assert contrast(theme[text], theme[ground]) >= 4.5, (text, ground)
        assert contrast(theme["on-accent"], theme["accent"]) >= 4.5
        assert contrast(theme["muted"], theme["ground"]) >= 3  # the border of inputs
