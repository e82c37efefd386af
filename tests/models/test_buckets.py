"""Buckets as packed bytes, compared with a dict: in any order of additions, equal contents have equal bytes."""

from __future__ import annotations

from hypothesis import assume, event, given
from hypothesis import strategies as st

from models import buckets
from models.buckets import EMPTY, NOTHING, Bucket, Total

Addition = tuple[int, int, int, int]
LARGEST_NUMBER = 2**32 - 1

NUMBERS = st.one_of(st.integers(0, 12), st.integers(470_000, 470_030), st.sampled_from([0, 65_536, LARGEST_NUMBER]))
PURCHASES = st.one_of(st.integers(0, 3), st.integers(0, 3), st.sampled_from([65_534, 65_535, 65_536, 10**6]))
ORDERS = st.one_of(
    st.integers(-2, 3), st.integers(-2, 3), st.sampled_from([-32_769, -32_768, 32_767, 32_768, 10**6, -(10**6)])
)
SPENDS_MINOR = st.one_of(
    st.integers(-5_000, 5_000),
    st.integers(-5_000, 5_000),
    st.sampled_from([-(2**31), -(2**31) - 1, 2**31 - 1, 2**31, 10**13, -(10**13), 2**57, -(2**57)]),
)
ADDITIONS = st.lists(st.tuples(NUMBERS, PURCHASES, ORDERS, SPENDS_MINOR), max_size=25)


class Model:
    """Buckets as a dict."""

    def __init__(self) -> None:
        self.held: dict[int, tuple[int, int, int]] = {}

    def add(self, number: int, purchases: int, orders: int, spend_minor: int) -> None:
        before = self.held.pop(number, (0, 0, 0))
        after = (before[0] + purchases, before[1] + orders, before[2] + spend_minor)
        if any(after):
            self.held[number] = after

    def listed(self) -> list[Bucket]:
        return [Bucket(number, *held) for number, held in sorted(self.held.items())]

    def total(self, first: int, end: int) -> Total:
        counted = [held for number, held in self.held.items() if first <= number < end]
        return (
            sum(spend for _, _, spend in counted),
            sum(orders for _, orders, _ in counted),
            sum(spend for _, _, spend in counted if spend < 0),
            sum(orders for _, orders, _ in counted if orders < 0),
        )

    def needs_more(self) -> bool:
        """Whether a bucket does not fit into the narrow form."""
        return any(
            purchases > 65_535 or not -32_768 <= orders <= 32_767 or not -(2**31) <= spend <= 2**31 - 1
            for purchases, orders, spend in self.held.values()
        )


def filled(additions: list[Addition]) -> tuple[bytes, Model]:
    data, model = EMPTY, Model()
    for addition in additions:
        data = buckets.add(data, *addition)
        model.add(*addition)
    return data, model


@given(ADDITIONS)
def test_what_is_added_is_held_after_every_addition(additions: list[Addition]) -> None:
    data, model = EMPTY, Model()
    for addition in additions:
        data = buckets.add(data, *addition)
        model.add(*addition)
        assert buckets.unpack(data) == model.listed()
        assert buckets.rows(data) == [tuple(one) for one in model.listed()]
        assert buckets.count(data) == len(model.held)
        for index, one in enumerate(model.listed()):
            assert buckets.get(data, index) == one
            assert buckets.number_at(data, index) == one.number


@given(ADDITIONS)
def test_the_wide_form_is_taken_only_while_a_bucket_needs_it(additions: list[Addition]) -> None:
    data, model = EMPTY, Model()
    for addition in additions:
        data = buckets.add(data, *addition)
        model.add(*addition)
        if not model.held:
            assert data == EMPTY
            continue
        event("wide" if model.needs_more() else "narrow")
        assert len(data) == 1 + (20 if model.needs_more() else 12) * len(model.held)


@given(ADDITIONS, st.randoms(use_true_random=False))
def test_the_same_contents_are_the_same_bytes_whatever_the_order_of_adding(
    additions: list[Addition], random: object
) -> None:
    others = list(additions)
    random.shuffle(others)  # type: ignore[attr-defined]
    data, model = filled(additions)
    assert filled(others)[0] == data
    # Nor does it matter that more was there once.
    more = buckets.add(buckets.add(data, 5, 70_000, -40_000, 2**40), 471_000, 1, 1, -(2**33))
    assert buckets.add(buckets.add(more, 471_000, -1, -1, 2**33), 5, -70_000, 40_000, -(2**40)) == data
    assert buckets.pack(model.listed()) == data


@given(ADDITIONS)
def test_what_is_listed_packs_to_the_same_bytes(additions: list[Addition]) -> None:
    data, _ = filled(additions)
    assert buckets.pack(buckets.unpack(data)) == data
    assert buckets.pack(iter(buckets.rows(data))) == data
    assert buckets.unpack(buckets.pack(buckets.unpack(data))) == buckets.unpack(data)


@given(ADDITIONS, NUMBERS)
def test_since_keeps_the_later_buckets_as_if_there_had_been_no_others(additions: list[Addition], number: int) -> None:
    data, model = filled(additions)
    later = [one for one in model.listed() if one.number >= number]
    assert buckets.unpack(buckets.since(data, number)) == later
    assert buckets.since(data, number) == filled([tuple(one) for one in later])[0]
    assert buckets.since(data, -1) == buckets.since(data, 0) == data


@given(ADDITIONS, st.integers(-3, 15) | NUMBERS, st.integers(-3, 15) | NUMBERS | st.just(2**63 - 1))
def test_a_total_adds_up_the_buckets_between_two_numbers(additions: list[Addition], first: int, end: int) -> None:
    data, model = filled(additions)
    assert buckets.total(data, first, end) == model.total(first, end)
    if first >= end:
        assert buckets.total(data, first, end) == NOTHING


@given(ADDITIONS, st.integers(0, LARGEST_NUMBER) | NUMBERS)
def test_totals_before_and_from_a_number_make_up_the_whole(additions: list[Addition], number: int) -> None:
    data, _ = filled(additions)
    before, after = buckets.total(data, 0, number), buckets.total(data, number, 2**63 - 1)
    assert tuple(map(sum, zip(before, after, strict=True))) == buckets.total(data, 0, 2**63 - 1)
    assert buckets.total(buckets.since(data, number), 0, 2**63 - 1) == after


@given(ADDITIONS, NUMBERS)
def test_a_bucket_is_found_by_its_number_and_holds_nothing_if_there_is_none(
    additions: list[Addition], number: int
) -> None:
    data, model = filled(additions)
    event("there" if number in model.held else "not there")
    assert buckets.at(data, number) == (number, *model.held.get(number, (0, 0, 0)))


@given(ADDITIONS, st.integers(-1, 2**32) | NUMBERS)
def test_the_first_from_a_number_has_only_earlier_ones_before_it(additions: list[Addition], number: int) -> None:
    data, model = filled(additions)
    assert buckets.first_from(data, number) == sum(held < number for held in model.held)


@given(ADDITIONS, st.integers(-3, 15) | NUMBERS, st.integers(0, 30) | NUMBERS)
def test_a_purchase_is_found_only_between_the_two_numbers(additions: list[Addition], first: int, width: int) -> None:
    data, model = filled(additions)
    end = first + width
    wanted = any(first <= number < end and purchases > 0 for number, (purchases, _, _) in model.held.items())
    event("a purchase" if wanted else "none")
    assert buckets.has_purchase(data, first, end) == wanted


@given(ADDITIONS, NUMBERS)
def test_adding_nothing_changes_nothing(additions: list[Addition], number: int) -> None:
    data, _ = filled(additions)
    assert buckets.add(data, number, 0, 0, 0) == data


@given(ADDITIONS)
def test_taking_everything_back_leaves_no_bytes(additions: list[Addition]) -> None:
    data, model = filled(additions)
    assume(model.held)
    for number, purchases, orders, spend_minor in model.listed():
        data = buckets.add(data, number, -purchases, -orders, -spend_minor)
    assert data == EMPTY
