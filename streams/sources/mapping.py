"""Makes event bodies from the rows of an export, by a mapping file.

It is pure and reads no files: a row is a dict, whose values are texts if it is from a CSV file, and any values of
Parquet or JSON otherwise. So records of a Kafka topic can be mapped too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from collections.abc import Mapping as Row
from decimal import Decimal
from typing import Any, Final

from models import units
from models.events import Rejected
from streams.sources.mapping_file import Condition, MappingFile, Rules, Wanted, merged_rules, read_mapping_file
from streams.sources.value_formats import EXACT, NumberFormat, Unmappable, as_text, is_empty, quoted, time_reader

ORIGIN: Final = "@origin"
"""The column that says where a row is from, as `orders.csv:17`. It is the id of the event if the row has no id."""
AMOUNT: Final = "amount"
TIMES: Final = frozenset({"occurred_at", "original_occurred_at", "until"})
INTEGERS: Final = frozenset({"score", "satisfaction", "number", "edition"})
BOOLEANS: Final = frozenset({"full_order", "money", "authority", "need"})
TRUTHS: Final = {"true": True, "yes": True, "1": True, "y": True, "false": False, "no": False, "0": False, "n": False}
OTHER: Final = "*"

_BRACES: Final = re.compile(r"\{([^{}]+)\}")


class Mapping:
    """A mapping file, ready to be applied to rows."""

    def __init__(self, file: MappingFile) -> None:
        self.file = file
        self._rules = [_Event(file, merged_rules(file, event)) for event in file.events or [file]]

    @classmethod
    def named(cls, name: str) -> Mapping:
        """The mapping of a preset, or of the file at a path. Raises LogError."""
        return cls(read_mapping_file(name))

    @property
    def topic(self) -> str:
        """The topic of the first kind of event; rows that can't be read are rejected under it."""
        return self._rules[0].topic

    @property
    def needs_event_ids(self) -> bool:
        """Whether rows have no ids, so that the ids of their events are made from file name and line."""
        return any(not event.has_id for event in self._rules)

    @property
    def reads(self) -> set[str]:
        """The names of all columns that the mapping uses, as it writes them."""
        return {name for event in self._rules for name in event.read}

    def missing_column(self, present: Collection[str]) -> str | None:
        """A column that is needed but not present."""
        for event in self._rules:
            missing = event.missing_column(present)
            if missing is not None and not event.optional:
                return missing
        return None

    def columns(self, present: Collection[str]) -> list[str]:
        """Those of the present columns that the mapping uses."""
        heads = {name if name in present else name.partition(".")[0] for name in self.reads}
        return [name for name in present if name in heads]

    def events(self, row: Row[str, Any]) -> Iterator[tuple[str, dict[str, Any] | Rejected]]:
        """The topic and the body of every event in a row, or why it has no body; nothing if the row is filtered out."""
        for number, event in enumerate(self._rules):
            try:
                if not event.is_in(row):
                    continue
                body: dict[str, Any] | Rejected = event.body(row, number)
            except Unmappable as error:
                body = error.as_rejected()
            yield event.topic, body

    def body(self, row: Row[str, Any]) -> dict[str, Any] | None:
        """The body of the first event in a row; None if there is none. Raises Unmappable."""
        for number, event in enumerate(self._rules):
            if event.is_in(row):
                return event.body(row, number)
        return None


class _Event:
    """One kind of event that rows may contain."""

    def __init__(self, file: MappingFile, rules: Rules) -> None:
        assert rules.topic is not None, "mapping_file checks it"
        self.topic = rules.topic
        self.optional = rules.optional
        self._constants = rules.constants
        self._numbers = NumberFormat(file)
        self._minor_units = file.minor_units
        self._negative_is_refund = file.negative == "refund"
        read_time = time_reader(file)
        self._when = [(_column(name), _test(wanted, self._numbers)) for name, wanted in rules.when.items()]
        self._refund_when = [
            (_column(name), _test(wanted, self._numbers)) for name, wanted in rules.refund_when.items()
        ]
        self._columns = {name: _column(column) for name, column in rules.columns.items()}
        self._templates = {name: _template(text) for name, text in rules.templates.items()}
        self._products = {name: [_column(one) for one in factors] for name, factors in rules.products.items()}
        fields = {"event_id", *rules.columns, *rules.templates, *rules.products}
        self._writers = {name: read_time if name in TIMES else _writer(name, rules) for name in fields}
        self.needed = _needed(rules)
        self.read = {name for names in self.needed for name in names}.union(*map(_names, rules.columns.values()))
        self.has_id = any("event_id" in table for table in (rules.columns, rules.templates, rules.constants))

    def missing_column(self, present: Collection[str]) -> str | None:
        """A column that is needed but not present; a dotted name is present if its first part is."""
        for names in self.needed:
            if not any(name in present or name.partition(".")[0] in present for name in names):
                return names[0]
        return None

    def is_in(self, row: Row[str, Any]) -> bool:
        """Whether a row contains this kind of event."""
        for column, test in self._when:  # a loop: a generator would cost as much as the tests
            if not test(column(row)):
                return False
        return True

    def body(self, row: Row[str, Any], number: int) -> dict[str, Any]:
        """The body of this kind of event in a row. Raises Unmappable."""
        body: dict[str, Any] = {}
        for name, column in self._columns.items():
            value = column(row)
            if not is_empty(value):
                body[name] = value
        for name, parts in self._templates.items():
            found = [part if isinstance(part, str) else part(row) for part in parts]
            if not any(part is None or part == "" for part in found):
                body[name] = "".join(map(as_text, found))
        for name, factors in self._products.items():
            values = [factor(row) for factor in factors]
            if not any(map(is_empty, values)):
                body[name] = self._product(values)
        if not self.has_id and ORIGIN in row:
            # The second and further events of a row get ids of their own.
            body["event_id"] = f"{row[ORIGIN]}:{number + 1}" if number else row[ORIGIN]
        for name, value in body.items():
            body[name] = self._writers[name](value)
        if constants := self._constants:
            body = {**constants, **body}
        if AMOUNT in body:
            self._normalise_amount(body, row)
        return body

    def _product(self, values: Iterable[Any]) -> Decimal:
        product = Decimal(1)
        try:
            for value in values:
                product = EXACT.multiply(product, self._numbers.read(value))
        except ArithmeticError:
            raise Unmappable("bad_amount", "the product has more digits than an amount can have") from None
        return product

    def _normalise_amount(self, body: dict[str, Any], row: Row[str, Any]) -> None:
        """Write the amount as event bodies have it; that of a refund without its sign."""
        is_refund = bool(self._refund_when) and all(test(column(row)) for column, test in self._refund_when)
        value = body[AMOUNT]
        if (
            isinstance(value, str)
            and self._numbers.is_plain
            and not (is_refund or self._negative_is_refund or self._minor_units)
        ):
            body[AMOUNT] = value.strip()
            return
        amount = self._numbers.read(value)
        if self._minor_units:
            amount = amount.scaleb(-units.currency_decimals(str(body.get("currency", ""))), EXACT)
        if is_refund or (amount < 0 and self._negative_is_refund):
            body["kind"] = "refund"
        if body.get("kind") == "refund" and (is_refund or self._negative_is_refund):
            amount = abs(amount)
        body[AMOUNT] = f"{amount:f}"


def _writer(name: str, rules: Rules) -> Callable[[Any], Any]:
    """A function that converts the value of a column to the value of a field of the body. It raises Unmappable."""
    ending, letters = rules.endings.get(name, ""), rules.letters.get(name)
    translations = rules.values.get(name)
    is_integer, is_boolean = name in INTEGERS, name in BOOLEANS
    is_plain = not (ending or letters or translations or is_integer or is_boolean or name == AMOUNT)

    def write(value: Any) -> Any:
        if is_plain and isinstance(value, str):
            return value.strip()
        if not isinstance(value, str):
            if isinstance(value, dict | list):
                raise Unmappable("wrong_type", f"{name}: {quoted(value)} is not one value")
            if name == AMOUNT or ((is_integer or is_boolean) and translations is None):
                return value
            value = as_text(value)
        if name == AMOUNT:
            return value
        value = value.strip().removesuffix(ending)
        if letters is not None:
            value = value.upper() if letters == "upper" else value.lower()
        if translations is not None:
            translated = translations.get(value, translations.get(OTHER))
            if translated is None:
                raise Unmappable("unknown_value", f"{name}: {quoted(value)} is not among {', '.join(translations)}")
            return translated
        if is_integer and value.isascii() and value.removeprefix("-").isdigit():
            return int(value)
        return TRUTHS.get(value.lower(), value) if is_boolean else value

    return write


def _column(names: str) -> Callable[[Row[str, Any]], Any]:
    """A function that looks up a column in a row; of several columns, the first that is not empty."""
    columns = [_single_column(name) for name in _names(names)]
    if len(columns) == 1:
        return columns[0]

    def look_up(row: Row[str, Any]) -> Any:
        for column in columns:
            value = column(row)
            if not is_empty(value):
                return value
        return None

    return look_up


def _names(names: str) -> list[str]:
    return [name.strip() for name in names.split("|")]


def _single_column(name: str) -> Callable[[Row[str, Any]], Any]:
    """A function that looks up a column by its name or, if there is no such name, by its dotted path."""
    path = name.split(".")
    if len(path) == 1:
        return lambda row: row.get(name)

    def look_up(row: Row[str, Any]) -> Any:
        if name in row:
            return row[name]
        found: Any = row.get(path[0])
        for step in path[1:]:
            if isinstance(found, dict):
                found = found.get(step)
            elif isinstance(found, list) and step.isdigit() and int(step) < len(found):
                found = found[int(step)]
            else:
                return None
        return found

    return look_up


def _template(text: str) -> list[str | Callable[[Row[str, Any]], Any]]:
    parts: list[str | Callable[[Row[str, Any]], Any]] = []
    for number, part in enumerate(_BRACES.split(text)):
        if number % 2:
            parts.append(_column(part))
        elif part:
            parts.append(part)
    return parts


def _template_columns(text: str) -> list[str]:
    return [name for name in _BRACES.findall(text) if name != ORIGIN]


def _needed(rules: Rules) -> list[list[str]]:
    """The columns that are needed: of each of these lists, one column has to be present."""
    needed = [*rules.when, *rules.refund_when]
    needed += [one for name, one in rules.columns.items() if name not in rules.optional_fields]
    needed += [one for factors in rules.products.values() for one in factors]
    needed += [one for text in rules.templates.values() for one in _template_columns(text)]
    return [_names(one) for one in needed]


def _test(wanted: Wanted, numbers: NumberFormat) -> Callable[[Any], bool]:
    """A function that says whether a value fulfils a condition."""
    if not isinstance(wanted, Condition):
        wanted = Condition(among=[wanted] if isinstance(wanted, str) else wanted)
    condition = wanted
    if condition in (Condition(among=condition.among), Condition(not_among=condition.not_among)):
        words, is_among = frozenset(condition.among or condition.not_among or ()), condition.among is not None
        return lambda value: (("" if is_empty(value) else as_text(value).strip()) in words) is is_among
    begins, ends = _several(condition.begins), _several(condition.ends)

    def holds(value: Any) -> bool:
        is_present = not is_empty(value)
        if condition.present is not None and is_present != condition.present:
            return False
        text = as_text(value).strip() if is_present else ""
        return (
            (condition.among is None or text in condition.among)
            and (condition.not_among is None or text not in condition.not_among)
            and (begins is None or text.startswith(begins))
            and (ends is None or text.endswith(ends))
            and (condition.above is None or (is_present and numbers.read(value) > Decimal(str(condition.above))))
            and (condition.below is None or (is_present and numbers.read(value) < Decimal(str(condition.below))))
        )

    return holds


def _several(texts: str | list[str] | None) -> tuple[str, ...] | None:
    return None if texts is None else (texts,) if isinstance(texts, str) else tuple(texts)
