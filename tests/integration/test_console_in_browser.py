"""The console as people use it: a real Chromium, a real worker, and an alert's whole life."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect, sync_playwright

from models import units
from streams.broker.embedded import EmbeddedRedis
from streams.web.settings import Role
from streams.web.signin.people import set_user
from tests.integration.conftest import Broker
from tests.integration.harness import PATIENCE_SECONDS, InputRecord, Site, free_port, site, wait_until

PASSWORD = "correct horse battery"
PEOPLE: tuple[tuple[str, Role], ...] = (("mia", "agent"), ("kim", "agent"), ("max", "manager"), ("vic", "viewer"))
PHONE = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        assert not os.environ.get("CI"), "CI needs Chromium: apt-get install chromium"
        pytest.skip("needs Chromium")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])


def ago(days: float) -> str:
    return units.format_time(time.time_ns() // 1_000_000 - round(days * units.DAY_MS))


def complaining(customer_id: str, spent: str = "250.00", category: str = "delivery") -> list[InputRecord]:
    """Records of a customer who bought 20 days ago and has a critical complaint now."""
    bought: dict[str, Any] = {
        "event_id": f"{customer_id}-p", "customer_id": customer_id, "kind": "purchase", "order_id": f"{customer_id}-o",
    }  # fmt: skip
    complained = {
        "event_id": f"{customer_id}-c", "customer_id": customer_id, "complaint_id": f"{customer_id}-c", "status": "opened",
    }  # fmt: skip
    return [
        ("purchases", bought | {"amount": spent, "currency": "USD", "occurred_at": ago(20)}),
        ("complaints", complained | {"severity": "critical", "category": category, "occurred_at": ago(0)}),
    ]


class Desk:
    """A worker, a console that shows its Redis, and browsers of people who sign in."""

    def __init__(self, here: Site, browser: Browser, url: str) -> None:
        self.here, self.browser, self.url = here, browser, url
        self.problems: list[str] = []
        self.sent = 0

    def produce(self, *inputs: InputRecord) -> None:
        """Produce records, and wait until what follows from them is in Redis."""
        self.here.produce(list(inputs))
        self.sent += len(inputs)
        worker = self.here.workers[-1]
        wait_until(
            lambda: worker.stats()["events"] >= self.sent and worker.stats()["drained"], 60, "the worker to be drained"
        )

    def sign_in(self, name: str, path: str = "/queue", **context_options: Any) -> Page:
        """Sign a person in, in a new browser context; returns the page at `path`."""
        context: BrowserContext = self.browser.new_context(**{"locale": "en-GB"} | context_options)
        page = context.new_page()
        page.on("console", lambda message: self.problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.goto(f"{self.url}/signin?after={path}")
        page.fill("#name", name)
        page.fill("#password", PASSWORD)
        page.click("main button[type=submit]")
        page.wait_for_url(lambda url: "/signin" not in url)
        return page


@contextmanager
def console(here: Site, folder: Path) -> Iterator[str]:
    """Run the console as a process, and yield its URL."""
    for name, role in PEOPLE:
        set_user(folder / "users.toml", name, role, PASSWORD)
    port = free_port()
    own = {"PORT": port, "USERS_FILE": folder / "users.toml", "KEYS_FILE": folder / "keys.toml"}
    environment = os.environ | here.settings.environment()
    environment |= {f"TIERSTREAM_CONSOLE_{name}": str(value) for name, value in own.items()}
    with (folder / "console.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "streams.cli", "console"], env=environment, stdout=log, stderr=log
        )
    try:
        import httpx

        def answers() -> bool:
            try:
                return httpx.get(f"http://127.0.0.1:{port}/signin").status_code == 200
            except httpx.TransportError:
                return False

        wait_until(answers, 60, lambda: f"the console: {(folder / 'console.log').read_text('utf-8')[-2000:]}")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0
        assert "Traceback" not in (folder / "console.log").read_text("utf-8")


@pytest.fixture(scope="module")
def office(broker: Broker, browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One worker and one console for all tests; each test uses another category of complaints."""
    folder = tmp_path_factory.mktemp("office")
    settings = {"partitions": 2, "policy": "annual-spend", "profile_interval": 50}
    with (
        EmbeddedRedis(folder) as redis,
        site(broker.address, folder, embedded=not broker.is_real, redis_url=redis.url, **settings) as here,
    ):
        here.start()
        with console(here, folder) as url:
            yield Desk(here, browser, url)


@pytest.fixture
def desk(office: Desk) -> Iterator[Desk]:
    office.problems.clear()
    yield office
    for context in office.browser.contexts:
        context.close()
    assert office.problems == []


def rows(page: Page) -> list[str]:
    return [one.get_attribute("data-customer") or "" for one in page.locator("tbody tr").all()]


def test_an_alert_from_the_queue_to_saved_by_the_keyboard(desk: Desk) -> None:
    desk.produce(*complaining("large", "900.00"), *complaining("small", "5.00"))
    page = desk.sign_in("mia", "/queue%3Fcategory=delivery")
    assert rows(page) == ["large", "small"]
    first = page.locator("tbody tr").first
    expect(first).to_contain_text("complaints")
    expect(first).to_contain_text("delivery")
    expect(first).to_contain_text("Call from service")
    page.keyboard.press("j")
    page.keyboard.press("c")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("link", name="Mine").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/customers/large")
    expect(page.get_by_role("heading", name="Alert 1: claimed")).to_be_visible()
    page.get_by_role("button", name="Contacted").click()
    expect(page.get_by_role("heading", name="Alert 1: in contact")).to_be_visible()
    page.get_by_role("button", name="Saved").click()
    expect(page.get_by_role("heading", name="Alert 1: saved")).to_be_visible()
    story = page.locator(".story")
    for what in (
        "Alert 1: opened",
        "Alert 1: claimed",
        "Alert 1: contacted",
        "Alert 1: saved",
        "Purchase",
        "Complaint opened · critical",
    ):
        expect(story).to_contain_text(what)
    page.get_by_role("link", name="Overview").click()
    expect(page.locator("tr", has_text="saved").locator("td").first).to_have_text("1")
    expect(page.locator(".facts")).to_contain_text("100 %")


def test_of_two_people_who_claim_the_last_alert_one_gets_it(desk: Desk) -> None:
    desk.produce(*complaining("eva", category="race"))
    mia, kim = (desk.sign_in(name, "/queue%3Fcategory=race") for name in ("mia", "kim"))
    for page in (mia, kim):
        # Both click before either has an answer.
        page.evaluate("document.getElementById('next').click()")

    deadline = time.monotonic() + 20
    while (
        not (winners := [page for page in (mia, kim) if "/customers/eva" in page.url]) and time.monotonic() < deadline
    ):
        mia.wait_for_timeout(50)
    (winner,) = winners
    loser = kim if winner is mia else mia
    expect(loser.locator("#status-line")).to_have_text("There is no alert to claim.")
    expect(winner.get_by_role("heading", name="Alert 1: claimed")).to_be_visible()
    expect(loser.locator("tbody tr")).to_have_count(0)
    desk.problems = [one for one in desk.problems if "404" not in one]  # the browser logs the 404 of that answer


def test_the_queue_page_shows_news_without_a_reload(desk: Desk) -> None:
    page = desk.sign_in("mia", "/queue%3Fcategory=live")
    expect(page.locator(".empty")).to_have_text("No alert fits these filters. Choose fewer.")
    expect(page.locator("#rows[data-live=yes]")).to_be_attached()
    desk.produce(*complaining("lena", category="live"))
    expect(page.locator("tbody tr")).to_have_count(1)
    max_ = desk.sign_in("max", "/customers/lena")
    max_.get_by_role("button", name="Claim").click()
    expect(page.locator("tbody tr")).to_have_count(0)


@pytest.mark.parametrize("path", ["/queue%3Fcategory={0}", "/customers/{0}"])
def test_a_change_between_a_page_and_its_live_updates_is_not_missed(desk: Desk, path: str) -> None:
    customer_id = "between-" + path[1:2]
    desk.produce(*complaining(customer_id, category=customer_id))
    page = desk.sign_in("mia", "/overview")
    claimed: list[str] = []

    def claim_first(route: Route) -> None:
        """The page is loaded; before its live updates are connected, another person claims the alert."""
        if not claimed:
            claimed.append(customer_id)
            act = {
                "event_id": f"{customer_id}-a", "customer_id": customer_id, "command": "act_on_alert",
                "action": "acknowledged",
            }  # fmt: skip
            desk.produce(("commands", act | {"actor": "kim", "occurred_at": ago(0)}))
        route.continue_()

    page.route("**/queue/live*", claim_first)
    page.goto(desk.url + path.format(customer_id).replace("%3F", "?"))
    if "queue" in path:
        expect(page.locator("tbody tr")).to_have_count(0)
    else:
        expect(page.get_by_role("heading", name="Alert 1: claimed")).to_be_visible()
    assert claimed == [customer_id]


def test_a_snooze_asks_until_when_and_a_dismissal_why(desk: Desk) -> None:
    desk.produce(*complaining("ada", category="asks"), *complaining("bob", category="asks"))
    page = desk.sign_in("mia", "/queue%3Fcategory=asks")
    row = page.locator("tr[data-customer=ada]")
    row.get_by_role("button", name="Snooze").click()
    page.locator("#ask-snoozed button[value=cancel]").click()
    expect(row).to_be_visible()
    row.get_by_role("button", name="Snooze").click()
    page.fill("#until", "2099-01-01T09:00")
    page.locator("#ask-snoozed button[value=ok]").click()
    expect(row).to_have_count(0)
    other = page.locator("tr[data-customer=bob]")
    other.get_by_role("button", name="Dismiss").click()
    page.locator("#ask-dismissed button[value=ok]").click()
    expect(page.locator("#ask-dismissed")).to_be_visible()  # without a reason the dialog stays open
    page.fill("#reason", "a mistake of ours")
    page.locator("#ask-dismissed button[value=ok]").click()
    expect(other).to_have_count(0)
    page.goto(f"{desk.url}/queue?state=snoozed&category=asks")
    assert rows(page) == ["ada"]
    page.goto(f"{desk.url}/queue?state=closed&category=asks")
    expect(page.locator("tbody tr")).to_contain_text("dismissed")
    page.goto(f"{desk.url}/customers/bob")
    expect(page.locator("section.alert")).to_contain_text("a mistake of ours")


def test_a_viewer_sees_neither_ids_nor_buttons(desk: Desk) -> None:
    desk.produce(*complaining("customer-1542", category="masked"))
    page = desk.sign_in("vic", "/queue%3Fcategory=masked")
    expect(page.locator("tbody th").first).to_contain_text("cu•••42")
    assert "customer-1542" not in page.content()
    assert page.locator("[data-act]").count() == page.locator("#next").count() == 0
    page.locator("tbody th a").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("cu•••42")
    assert "customer-1542" not in page.content()


def test_pages_fit_a_phone_in_chinese_and_dark_and_label_every_field(desk: Desk) -> None:
    desk.produce(*complaining("ida", category="phone"))
    for context_options in (
        {"viewport": PHONE},
        {"viewport": PHONE, "color_scheme": "dark", "locale": "zh-CN"},
        {"locale": "zh-CN"},
    ):
        page = desk.sign_in("mia", **context_options)
        for path in ("/queue", "/customers/ida", "/overview"):
            page.goto(desk.url + path)
            assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), (
                path,
                context_options,
            )
            unlabelled = page.evaluate(WITHOUT_A_LABEL)
            assert unlabelled == [], path
        is_chinese = "locale" in context_options
        assert page.get_attribute("html", "lang") == ("zh-Hans" if is_chinese else "en")
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(18, 22, 28)") == (context_options.get("color_scheme") == "dark")


def test_on_a_phone_a_tier_s_name_stays_visible_beside_its_last_measure(desk: Desk) -> None:
    desk.produce(*complaining("tia", category="tiers"))
    page = desk.sign_in("mia", "/overview", viewport=PHONE)
    name, last = page.locator(".tiers tbody th").first, page.locator(".tiers tbody td:last-child").first
    before = name.bounding_box()
    last.scroll_into_view_if_needed()
    after, measure = name.bounding_box(), last.bounding_box()
    assert before and after and measure
    assert after["x"] == before["x"]
    assert after["x"] + after["width"] <= measure["x"] <= PHONE["width"]


WITHOUT_A_LABEL = """
() => [...document.querySelectorAll("input:not([type=hidden]), select, textarea, button, a, svg[role=img]")].filter((one) => {
  const label = one.labels?.length || one.textContent.trim() || one.getAttribute("aria-label") || one.querySelector("title");
  return !label;
}).map((one) => one.outerHTML)
"""


def test_the_slider_shows_the_past(desk: Desk) -> None:
    desk.produce(*complaining("uma", category="past"))
    page = desk.sign_in("mia", "/customers/uma")
    now: Callable[[], str] = lambda: page.locator("#then").inner_text()  # noqa: E731
    latest = now()
    assert "watch" in latest or "high" in latest or "critical" in latest
    page.locator("#slider").focus()
    cursor = page.locator(".timeline .cursor")
    assert cursor.get_attribute("x1") == cursor.get_attribute("data-right")
    page.keyboard.press("Home")
    assert cursor.get_attribute("x1") == cursor.get_attribute("data-left")
    assert now() != latest
    assert page.get_attribute("#slider", "aria-valuetext") == now()


def test_what_if_is_asked_and_answered_on_the_customer_s_page(desk: Desk) -> None:
    desk.produce(*complaining("whatif-1", spent="190.00", category="what-if"))
    page = desk.sign_in("mia", "/customers/whatif-1")
    answer = page.locator("#what-if-answer")
    expect(page.locator("#severity")).to_be_hidden()
    # By the keyboard alone, and without loading the page again.
    page.evaluate("window.isTheSame = true")
    page.focus("#amount")
    page.keyboard.type("12o")
    page.keyboard.press("Enter")
    expect(answer).to_contain_text("Write an amount greater than zero, as in 1240.00.")
    page.fill("#amount", "15.00")
    page.keyboard.press("Enter")
    expect(answer.locator("tr", has_text="Tier").first).to_contain_text("silvergold")
    expect(answer).to_contain_text("one purchase of $10.00 reaches gold")
    expect(answer).to_contain_text("Tier up silver → gold")
    page.select_option("#what", "complaint")
    expect(page.locator("#amount")).to_be_hidden()
    page.select_option("#severity", "low")
    page.click("#what-if button")
    expect(answer.locator("tr.term", has_text="complaints")).to_contain_text("low complaint")
    assert page.evaluate("window.isTheSame") is True
    # The purchase that was asked about was not made; and without JavaScript the page answers the same.
    assert not any(json.loads(one.value() or b"{}").get("amount") == "15.00" for one in desk.here.read("purchases"))
    silent = desk.sign_in("vic", "/queue", java_script_enabled=False)
    silent.click("text=wh•••-1")
    assert "whatif-1" not in silent.content()
    silent.fill("#amount", "15")
    silent.click("#what-if button")
    expect(silent.locator("#what-if-answer")).to_contain_text("one purchase of $10.00 reaches gold")
    assert "whatif-1" not in silent.content()
