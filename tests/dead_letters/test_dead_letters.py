"""Dead letters without a broker: what the ledger makes of letters and notes, how a body is mended, what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

import models
from streams.dead_letters import on_broker as dead_letters
from streams.dead_letters.ledger import Address, DeadLettersError, Ledger, parse_address
from streams.dead_letters.on_broker import uninterrupted, unsendable
from streams.dead_letters.repair import changes, mended
from tests.test_cli import purchase, run

ANN = {"USER": "ann", "TIERSTREAM_POLICY": "retail-three-tier"}


def letter(offset: int, reason: str = "bad_amount", topic: str = "purchases", **more: str) -> dict[str, str]:
    return {"topic": topic, "partition": "0", "offset": str(offset), "reason": reason, "detail": "…"} | more


def note(settles: str, how: str = "resent", **more: str) -> dict[str, str]:
    return {"settles": settles, "how": how, "by": "ann"} | more


def ledger_of(*records: dict[str, str]) -> Ledger:
    """A partition's records, one a second."""
    ledger = Ledger()
    for offset, headers in enumerate(records):
        ledger.take((0, offset), offset * 1_000, b"ada", headers)
    return ledger


def open_addresses(ledger: Ledger, **kind: Any) -> list[Address]:
    return [one.address for one in ledger.select(**kind)]


def test_a_letter_is_open_until_a_note_settles_it_and_the_note_says_how() -> None:
    ledger = ledger_of(letter(7), letter(8), note("0:0", "repaired", to="purchases:0:99", note="typo"))
    assert open_addresses(ledger) == [(0, 1)]
    first, second = ledger.select(settled=True)
    assert second.settled is None
    assert first.settled is not None
    assert (first.settled.how, first.settled.by, first.settled.at_ms) == ("repaired", "ann", 2_000)
    assert (first.settled.to, first.settled.note) == ("purchases:0:99", "typo")


def test_a_letter_that_is_there_twice_is_one_at_its_first_address_and_settled_by_either() -> None:
    ledger = ledger_of(letter(7), letter(8), letter(7), note("0:2"))
    assert open_addresses(ledger, settled=True) == [(0, 0), (0, 1)]
    assert open_addresses(ledger) == [(0, 1)]
    assert ledger.letter((0, 2)) is ledger.letter((0, 0))


def test_a_repetition_after_the_note_does_not_open_the_letter_again() -> None:
    assert open_addresses(ledger_of(letter(7), note("0:0"), letter(7))) == []


def test_the_same_offset_of_another_topic_or_partition_is_another_letter() -> None:
    ledger = ledger_of(letter(7), letter(7, topic="feedback"), letter(7, partition="1"))
    assert len(ledger.select()) == 3


def test_letters_whose_source_is_not_known_are_each_their_own() -> None:
    nowhere = {"reason": "not_json", "topic": "purchases"}
    ledger = ledger_of(nowhere, nowhere | {"partition": "zero", "offset": "-"})
    assert len(ledger.select()) == 2
    assert {one.where for one in ledger.select()} == {"purchases:?"}


def test_notes_about_nothing_and_foreign_records_are_passed_over() -> None:
    ledger = ledger_of({}, note("0:99"), note("what?"), {"ce_id": "7"}, letter(1))
    assert open_addresses(ledger) == [(0, 4)]


def test_the_last_note_counts() -> None:
    ledger = ledger_of(letter(1), note("0:0", "resent"), note("0:0", "dismissed"))
    [one] = ledger.select(settled=True)
    assert one.settled is not None
    assert one.settled.how == "dismissed"


def test_letters_are_selected_by_reason_topic_and_time_in_the_order_in_which_they_came() -> None:
    ledger = ledger_of(letter(1), letter(2, "not_json"), letter(3, topic="feedback"), letter(4))
    ledger.take((1, 0), 500, b"bob", letter(5, partition="1"))
    assert open_addresses(ledger) == [(0, 0), (1, 0), (0, 1), (0, 2), (0, 3)]
    assert open_addresses(ledger, reason="not_json") == [(0, 1)]
    assert open_addresses(ledger, topic="feedback") == [(0, 2)]
    assert open_addresses(ledger, reason="bad_amount", topic="purchases", since_ms=501) == [(0, 3)]


@pytest.mark.parametrize("text", ["", "7", "0:", ":7", "0:-1", "0:7:8", "zero:7", "²:7"])
def test_what_is_no_address_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match="write PARTITION:OFFSET"):
        parse_address(text)


@pytest.mark.parametrize(
    ("topic", "written", "field"),
    [
        ("purchases", {"order_id": "7"}, "7"),
        ("purchases", {"order_id": '"7"'}, "7"),
        ("purchases", {"amount": "12.50"}, 12.5),
        ("purchases", {"amount": "a=b"}, "a=b"),
        ("purchases", {"occurred_at": "2026-01-31T12:00:00Z"}, "2026-01-31T12:00:00Z"),
        ("purchases", {"full_order": "true"}, True),
        ("purchases", {"channel": "null"}, None),
        ("purchases", {"remark": "[1]"}, [1]),
        ("feedback", {"score": "90"}, 90),
        ("feedback", {"score": "101"}, 101),
    ],
)
def test_what_is_set_is_json_where_that_fits_the_field_else_text(
    topic: str, written: dict[str, str], field: Any
) -> None:
    [name] = written
    after = mended(b'{"event_id":"e1"}', topic, written, [])
    assert json.loads(after or b"") == {"event_id": "e1", name: field}


def test_fields_are_set_and_taken_away_and_the_others_stay_as_they_are() -> None:
    before = b'{"event_id": "e1", "amount": "1.005", "channel": "x", "note": {"a": 1}}'
    after = mended(before, "purchases", {"amount": "1.01", "order_id": "o1"}, ["channel", "nothing"])
    assert json.loads(after or b"") == {"event_id": "e1", "amount": 1.01, "note": {"a": 1}, "order_id": "o1"}
    assert changes(before, after) == {
        "amount": ('"1.005"', "1.01"),
        "channel": ('"x"', None),
        "order_id": (None, '"o1"'),
    }


def test_a_body_that_nothing_is_set_in_stays_byte_for_byte() -> None:
    assert mended(b'{ "a" : 1 }', "purchases", {}, []) == b'{ "a" : 1 }'


@pytest.mark.parametrize("value", [None, b"", b"not json", b"[1]", b"\xff"])
def test_a_value_without_fields_needs_a_whole_body(value: bytes | None) -> None:
    with pytest.raises(DeadLettersError, match="--file"):
        mended(value, "purchases", {"amount": "1"}, [])


def test_a_letter_is_judged_by_the_policy_of_now_and_too_late_by_nobody_but_force() -> None:
    decoder = models.load("annual-spend").decoder()
    ledger = ledger_of(letter(1), letter(2, "too_late"), letter(3, topic="gossip"))
    good, late, gossip = ledger.select()
    value = purchase(1).encode()
    assert unsendable(good, value, b"ada", decoder) is None
    for key in (b"bob", None):
        left = unsendable(good, value, key, decoder)
        assert left is not None
        assert left.code == "key_mismatch"
    left = unsendable(late, value, b"ada", decoder)
    assert left is not None
    assert left.code == "too_late"
    assert unsendable(late, value, b"ada", decoder, force=True) is None
    left = unsendable(gossip, value, b"ada", decoder, force=True)
    assert left is not None
    assert left.code == "unknown_topic"


def test_ctrl_c_waits_for_the_notes_of_what_went_out() -> None:
    import signal

    done = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        signal.raise_signal(signal.SIGINT)
        done.append("notes")
    assert done == ["notes"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["show", "42"], "write PARTITION:OFFSET"),
        (["list", "--reason", "bad_luck"], "they are not_json, "),
        (["list", "--topic", "gossip"], "they are purchases, "),
        (["list", "--since", "yesterday"], "is not a time"),
        (["repair", "0:1"], "there is nothing to repair"),
        (["repair", "0:1", "--set", "amount"], "write field=value"),
        (["repair", "0:1", "--file", "nowhere.json"], "nowhere.json: No such file"),
        (["repair", "0:1", "--set", "amount=1", "--policy", "nowhere.toml"], "nowhere.toml"),
        (["resend"], "their addresses, or --reason, or --all-open"),
        (["resend", "0:1", "--all-open"], "their addresses, or --reason, or --all-open"),
        (["resend", "0:1", "--topic", "purchases"], "not with addresses"),
        (["resend", "--all-open", "--again"], "--again goes with addresses"),
        (["dismiss", "0:1", "--note", " "], "--note is empty"),
        (["dismiss", "0:1"], "--note"),
        (["list", "--broker", "localhost"], "is not host:port"),
    ],
    ids=" ".join,
)
def test_wrong_use_is_refused_with_what_to_write(arguments: list[str], says: str) -> None:
    result = run("dead-letters", *arguments, env=ANN)
    assert result.exit_code == 2
    assert says in result.output


def test_nobody_settles_without_a_name() -> None:
    result = run("dead-letters", "resend", "0:1", env=ANN | {"USER": ""})
    assert result.exit_code == 2
    assert "give --by NAME" in result.output.replace("Give", "give")


def test_without_a_broker_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "PATIENCE_SECONDS", 0.5)
    result = run("dead-letters", "list", "--broker", "127.0.0.1:1", env=ANN)
    assert result.exit_code == 1
    assert "no Kafka answers at 127.0.0.1:1" in result.output
    assert "TIERSTREAM_BROKER" in result.output
