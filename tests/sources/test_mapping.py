"""A mapping makes event bodies from rows, of any kind of file; a row that it can't use is a rejection with a code."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import load
from models.events import REASONS, Event, Rejected
from streams.sources.mapped_log import as_json, join_rows
from streams.sources.mapping import Mapping
from streams.sources.mapping_file import parse_mapping, preset_names

DECODER = load("annual-spend").decoder()
BASE = """
topic = "purchases"
[columns]
event_id = "no"
customer_id = "who"
order_id = "no"
amount = "sum"
occurred_at = "when"
[constants]
currency = "USD"
kind = "purchase"
"""
ROW = {"no": "1", "who": "ada", "sum": "12.50", "when": "2026-01-31T12:00:00Z"}


def mapping(text: str) -> Mapping:
    return Mapping(parse_mapping(text))


def body_of(before: str = "", after: str = "", **cells: Any) -> dict[str, Any]:
    """The body of ROW with other cells, by BASE with lines before and tables after it."""
    ((_, body),) = mapping(before + BASE + after).events(ROW | cells)
    assert isinstance(body, dict), body
    return body


def first_body(chosen: Mapping, row: dict[str, Any]) -> dict[str, Any]:
    """The body of the first event in a row, which has to have one."""
    body = chosen.body(row)
    assert body is not None
    return body


def rejection_of(before: str = "", after: str = "", **cells: Any) -> Rejected:
    ((_, body),) = mapping(before + BASE + after).events(ROW | cells)
    assert isinstance(body, Rejected), body
    assert body.code in REASONS
    return body


def test_columns_become_fields_and_constants_fill_what_is_empty() -> None:

    body = body_of()
    assert body == {
        "event_id": "1", "customer_id": "ada", "order_id": "1", "amount": "12.50", "currency": "USD", "kind": "purchase",
        "occurred_at": "2026-01-31T12:00:00Z",
    }  # fmt: skip
    given_currency = mapping(BASE.replace("[constants]", 'currency = "cur"\n[constants]'))
    assert first_body(given_currency, ROW | {"cur": "EUR"})["currency"] == "EUR"
    assert first_body(given_currency, ROW | {"cur": ""})["currency"] == "USD"


def test_the_decoder_accepts_a_mapped_body() -> None:
    event = DECODER.decode("purchases", as_json(body_of()))
    assert isinstance(event, Event)
    assert (event.customer_id, event.amount_minor, event.occurred_at_ms) == ("ada", 1250, 1769860800000)


def test_a_dotted_path_is_resolved_unless_a_column_has_that_name() -> None:
    nested = mapping(BASE.replace('"who"', '"customer.ids.1"'))
    assert first_body(nested, ROW | {"customer": {"ids": ["a", 7]}})["customer_id"] == "7"
    assert "customer_id" not in first_body(nested, ROW | {"customer": {"ids": ["a"]}})
    assert first_body(nested, ROW | {"customer.ids.1": "x"})["customer_id"] == "x"


@pytest.mark.parametrize(
    ("how", "written", "amount"),
    [
        ('decimal = ","\n', "12,50", "12.50"),
        ('decimal = ","\nthousands = "."\n', "1.234,50", "1234.50"),
        ('decimal = ","\nthousands = "."\n', "1234,50", "1234.50"),
        ('thousands = ","\n', "1,234,567.8", "1234567.8"),
        ('thousands = ","\n', "12,34,567.80", "1234567.80"),
        ('thousands = "\u00a0"\ndecimal = ","\n', "1\u00a0234,50", "1234.50"),
        ('ignore = "$ "\n', "$ 12.50", "12.50"),
        ("minor_units = true\n", "1250", "12.50"),
        ("minor_units = true\n", 1250, "12.50"),
        ("", 12.5, "12.5"),
        ("", Decimal("12.50"), "12.50"),
        ('decimal = ","\n', 12.5, "12.5"),
        ('negative = "refund"\n', "12.50", "12.50"),
    ],
)
def test_amounts_are_read_in_the_format_of_the_mapping(how: str, written: Any, amount: str) -> None:
    assert body_of(how, sum=written)["amount"] == amount


@pytest.mark.parametrize(
    ("how", "written"),
    [
        ('decimal = ","\n', "12.50"),  # might be twelve and a half, might be 1250
        ('thousands = ","\n', "12,50"),
        ('thousands = ","\n', "1,2345"),
        ('decimal = ","\nthousands = "."\n', "1.5"),
        ('negative = "refund"\n', "1_000"),
        ('negative = "refund"\n', "٣"),
        ('negative = "refund"\n', "NaN"),
        ('negative = "refund"\n', "1" * 65),
        ("", True),
    ],
)
def test_an_amount_that_could_mean_something_else_is_refused(how: str, written: Any) -> None:
    assert rejection_of(how, sum=written).code == "bad_amount"


def test_minor_units_are_those_of_the_row_s_currency() -> None:
    text = "minor_units = true\n" + BASE.replace("[constants]", 'currency = "cur"\n[constants]')
    amounts = {
        cur: first_body(mapping(text), ROW | {"sum": "1500", "cur": cur})["amount"] for cur in ("USD", "JPY", "KWD")
    }
    assert amounts == {"USD": "15.00", "JPY": "1500", "KWD": "1.500"}


@given(st.decimals(-(10**9), 10**9, places=4), st.integers(-(10**6), 10**6))
def test_a_product_is_exact_and_below_zero_it_is_a_refund(price: Decimal, quantity: int) -> None:
    text = 'negative = "refund"\n' + BASE.replace('amount = "sum"\n', "") + '[products]\namount = ["n", "price"]\n'
    body = mapping(text).body(ROW | {"n": str(quantity), "price": str(price)})
    assert body is not None
    assert Decimal(body["amount"]) == abs(price * quantity)
    assert body["kind"] == ("refund" if price * quantity < 0 else "purchase")


def test_a_product_that_would_have_to_be_rounded_is_refused() -> None:
    text = BASE.replace('amount = "sum"\n', "") + '[products]\namount = ["n", "price"]\n'
    ((_, rejected),) = mapping(text).events(ROW | {"n": "1." + "1" * 40, "price": "1." + "3" * 40})
    assert isinstance(rejected, Rejected)
    assert (rejected.code, "more digits" in rejected.detail) == ("bad_amount", True)


def test_only_adjacent_rows_of_the_same_order_are_joined() -> None:
    def made(number: int, amount: Any, **more: Any) -> Any:
        body = {"customer_id": "ada", "order_id": "1", "occurred_at": "t", "kind": "purchase", "currency": "USD"}
        return number, "purchases", None, body | {"amount": amount} | more

    long = "1." + "0" * 40 + "1"
    refused = (5, "purchases", None, Rejected("bad_time", ""))
    rows = [
        made(1, "0.10"), made(2, "0.20"), made(3, long), made(4, "1", order_id="2"), refused, made(6, "1", order_id="2"),
        made(7, "1_000", order_id="2"), made(8, "1", order_id="2", kind="refund"), made(9, "2", order_id="2", kind="refund"),
    ]  # fmt: skip
    found = [(line, body if isinstance(body, Rejected) else body["amount"]) for line, _, _, body in join_rows(rows)]
    assert found == [
        (1, str(Decimal("0.30") + 1)[:4] + "0" * 38 + "1"),
        (4, "1"),
        (5, refused[3]),
        (6, "1"),
        (7, "1_000"),
        (8, "3"),
    ]


@pytest.mark.parametrize(
    ("how", "written", "at"),
    [
        ("", "2026-01-31T12:00:00+01:00", "2026-01-31T11:00:00Z"),
        ("", "2026-01-31 12:00:00.250Z", "2026-01-31T12:00:00.250Z"),
        ('utc_offset = "+08:00"\n', "2026-01-31T12:00:00", "2026-01-31T04:00:00Z"),
        ('zone = "Europe/Berlin"\n', "2026-01-31T12:00:00", "2026-01-31T11:00:00Z"),
        ('zone = "Europe/Berlin"\n', "2026-07-31T12:00:00", "2026-07-31T10:00:00Z"),
        ('zone = "Europe/Berlin"\n', "2026-10-25T02:30:00", "2026-10-25T00:30:00Z"),  # it comes twice: the first
        ('time_format = "epoch-s"\n', "1769860800", "2026-01-31T12:00:00Z"),
        ('time_format = "epoch-s"\n', 1769860800.25, "2026-01-31T12:00:00.250Z"),
        ('time_format = "epoch-ms"\n', 1769860800250, "2026-01-31T12:00:00.250Z"),
        ('time_format = ["%d.%m.%Y", "%d.%m.%Y %H:%M"]\n', "31.01.2026 12:00", "2026-01-31T12:00:00Z"),
    ],
)
def test_times_are_read_in_the_format_of_the_mapping(how: str, written: Any, at: str) -> None:
    assert body_of(how, when=written)["occurred_at"] == at


@pytest.mark.parametrize("written", ["yesterday", "1969-12-31T00:00:00Z", "2100-01-01T00:00:00Z", "0000-00-00"])
def test_an_invalid_time_is_rejected_and_quoted(written: str) -> None:
    rejected = rejection_of(when=written)
    assert rejected.code == "bad_time"
    assert written in rejected.detail


def test_texts_stand_for_values_and_an_unknown_text_is_rejected() -> None:
    after = '[values.kind]\nSALE = "purchase"\nRETURN = "refund"\n'
    text = BASE.replace("[constants]", 'kind = "type"\n[constants]') + after
    assert first_body(mapping(text), ROW | {"type": "RETURN"})["kind"] == "refund"
    ((_, rejected),) = mapping(text).events(ROW | {"type": "GIFT"})
    assert isinstance(rejected, Rejected)
    assert (rejected.code, "'GIFT' is not among SALE, RETURN" in rejected.detail) == ("unknown_value", True)


def test_integers_and_booleans_are_read_from_text() -> None:
    text = 'topic = "feedback"\n[columns]\nscore = "s"\n'
    assert mapping(text).body({"s": "80"}) == {"score": 80}
    text = BASE.replace("[constants]", 'full_order = "all"\n[constants]')
    found = [first_body(mapping(text), ROW | {"all": word})["full_order"] for word in ("Yes", "0", "x")]
    assert found == [True, False, "x"]


@pytest.mark.parametrize(
    ("condition", "matching", "other"),
    [
        ('"paid"', "paid", "open"),
        ('["paid", "sent"]', "sent", "open"),
        ('{ not = ["open"] }', "paid", "open"),
        ('{ begins = "C" }', "C123", "123"),
        ('{ ends = ["x", "y"] }', "ay", "az"),
        ("{ above = 10 }", "10.01", "10"),
        ('{ above = 1, below = "2" }', "1.5", "2"),
        ("{ present = true }", "x", ""),
        ("{ present = false }", None, "x"),
    ],
)
def test_rows_are_filtered_by_conditions_on_columns(condition: str, matching: Any, other: Any) -> None:
    one = mapping(f"{BASE}[when]\nstate = {condition}\n")
    assert one.body(ROW | {"state": matching}) is not None
    assert one.body(ROW | {"state": other}) is None
    assert list(one.events(ROW | {"state": other})) == []


def test_a_cancellation_is_a_refund_of_the_amount_without_its_sign() -> None:
    after = '[refund_when]\nno = { begins = "C" }\n'
    assert body_of(after=after, no="C7", sum="-12.50")["kind"] == "refund"
    assert body_of(after=after, no="C7", sum="-12.50")["amount"] == "12.50"
    assert body_of(after=after, no="7")["kind"] == "purchase"


def test_a_row_may_be_events_of_several_topics_with_ids_that_differ() -> None:
    text = """
    topic = "purchases"
    [columns]
    customer_id = "who"
    occurred_at = "when"
    [[events]]
    columns = { amount = "sum" }
    constants = { kind = "purchase", currency = "USD", order_id = "o" }
    [[events]]
    topic = "feedback"
    when = { stars = { present = true } }
    columns = { score = "stars" }
    constants = { kind = "csat" }
    """
    one = mapping(text)
    row = ROW | {"stars": "90", "@origin": "shop.csv:7"}
    assert [(topic, body["event_id"]) for topic, body in one.events(row) if isinstance(body, dict)] == [
        ("purchases", "shop.csv:7"), ("feedback", "shop.csv:7:2"),
    ]  # fmt: skip
    assert all(isinstance(DECODER.decode(topic, as_json(body)), Event) for topic, body in one.events(row))
    assert [topic for topic, _ in one.events(row | {"stars": ""})] == ["purchases"]


def test_an_event_overrides_what_is_defined_for_all_events() -> None:
    text = BASE + '[[events]]\nproducts = { amount = ["n", "sum"] }\ntemplates = { event_id = "{no}/{n}" }\n'
    body = mapping(text).body(ROW | {"n": "2"})
    assert body is not None
    assert (body["amount"], body["event_id"]) == ("25.00", "1/2")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (BASE.replace("purchases", "gossip"), "topic 'gossip' is not among purchases"),
        (BASE.replace('topic = "purchases"', ""), "topic is missing"),
        (BASE.replace("customer_id", "client"), "an event of purchases has no field 'client'; its fields are event_id"),
        ('zone = "Mars/Olympus"\n' + BASE, "zone 'Mars/Olympus' is not known"),
        ('utc_offset = "8"\n' + BASE, "is not an offset from UTC"),
        ('thousands = "."\n' + BASE, "is not one character other than decimal"),
        ('negative = "loss"\n' + BASE, "Invalid enum value 'loss' - at `$.negative`"),
        (BASE + "[when]\nstate = { like = 3 }\n", "unknown field `like`"),
        ("topic = ", "Invalid value"),
    ],
)
def test_an_invalid_mapping_is_refused_with_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(ValueError) as error:
        parse_mapping(text)
    assert says in str(error.value)


CELLS = (
    st.none()
    | st.text(max_size=20)
    | st.floats()
    | st.integers()
    | st.booleans()
    | st.decimals()
    | st.binary(max_size=5)
)
CELLS |= (
    st.datetimes()
    | st.dates()
    | st.lists(st.integers(), max_size=2)
    | st.dictionaries(st.text(max_size=3), st.integers())
)


@given(st.sampled_from(preset_names()), st.data())
def test_no_row_makes_a_mapping_fail(preset: str, data: st.DataObject) -> None:
    one = Mapping.named(preset)
    names = sorted({name for event in one._rules for name in event.read})
    row = data.draw(st.fixed_dictionaries({}, optional=dict.fromkeys(names, CELLS)))
    for topic, body in one.events(row):
        if isinstance(body, Rejected):
            assert body.code in REASONS
        else:
            DECODER.decode(topic, as_json(body))
        as_json(row)
