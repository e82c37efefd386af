"""`tierstream dead-letters list`, `show`, `repair`, `resend` and `dismiss`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

import models
from models import units
from models.bodies import TOPIC_BODIES
from models.events import REASONS
from streams.dead_letters.ledger import Address, DeadLetter, DeadLettersError, Settled, ValueTruncated, parse_address
from streams.dead_letters.repair import changes, fields_of, parse_assignment, repaired
from streams.dead_letters.topic import DeadLetters, NotSent, Sending, headers_of, unsendable
from streams.settings import SettingsError, load_settings
from streams.terminal import (
    FAILED,
    INTERRUPTED,
    BrokerOption,
    ByOption,
    JsonOption,
    SettingPolicyOption,
    YesOption,
    confirm,
    example,
    fail,
    printable,
    refuse,
    say,
    say_json,
    warn,
)

MANY: Final = 5_000
"""From this many dead letters on, reading and sending take long enough to show a bar."""
SHOWN_CHARACTERS: Final = 4_000
SHOWN_LEFT: Final = 20
PIPE_WIDTH: Final = 160

ReasonOption = Annotated[str | None, typer.Option(help="Only dead letters with this reason code.")]
TopicOption = Annotated[str | None, typer.Option(help="Only dead letters from this input topic.")]
SinceOption = Annotated[str | None, typer.Option(help="Only dead letters that were set aside since this time.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
AgainOption = Annotated[bool, typer.Option("--again", help="Also dead letters that are settled already.")]
AddressArgument = Annotated[str, typer.Argument(help="A dead letter, PARTITION:OFFSET in its topic.")]


@example("tierstream dead-letters list --reason unknown_currency")
def list_dead_letters(
    reason: ReasonOption = None,
    topic: TopicOption = None,
    since: SinceOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Also settled ones, and how they were settled.")] = False,
    counts: Annotated[bool, typer.Option("--counts", help="Only their number, by topic and reason.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many to list, the oldest first.")] = 50,
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the open dead letters."""
    with _sentences():
        _check_kind(reason, topic)
        since_ms = 0 if since is None else units.parse_time(since)
        dead_letters = _dead_letters(broker)
        with _bar("reading") as on_progress:
            found = dead_letters.ledger(None, on_progress).select(reason, topic, since_ms, everything)
        if counts:
            _show_counts(found, as_json)
        elif as_json:
            say_json({"letters": [_as_json(one) for one in found[:limit]], "more": max(0, len(found) - limit)})
        else:
            _show_list(found, limit, everything)


@example("tierstream dead-letters show 0:42 --raw > record.json")
def show(
    address: AddressArgument,
    raw: Annotated[bool, typer.Option("--raw", help="Print only the original bytes.")] = False,
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one dead letter: the reason, its origin and its bytes."""
    with _sentences():
        dead_letters = _dead_letters(broker)
        [dead_letter] = _find(dead_letters, [address])
        record = dead_letters.record(dead_letter)
        value, cut = record.value(), None
        try:
            value = dead_letters.original(dead_letter, value)
        except ValueTruncated as error:
            cut = str(error)
        if raw:
            sys.stdout.buffer.write(value or b"")
            sys.stdout.buffer.flush()
            if cut is not None:
                raise fail(f"{cut} (this is its beginning)")
            return
        if as_json:
            whole = {"means": REASONS.get(dead_letter.reason), "headers": headers_of(record), "cut": cut is not None}
            say_json(_as_json(dead_letter) | whole | {"value": _text(value)}, orjson.OPT_INDENT_2)
            return
        rows = {
            "dead letter": dead_letter.name,
            "reason": dead_letter.reason,
            "means": REASONS.get(dead_letter.reason, "a reason that this version does not know"),
            "detail": dead_letter.detail,
            "set aside": units.format_time(dead_letter.at_ms),
            "from": dead_letter.where,
            "key": "none" if dead_letter.key is None else dead_letter.key,
            "headers": "\n".join(f"{name}: {text}" for name, text in headers_of(record).items()),
            "state": "open" if dead_letter.settled is None else _in_words(dead_letter.settled),
        }
        table = Table(show_header=False)
        for name, text in rows.items():
            table.add_row(name, Text(printable(text)))
        _console().print(table)
        say(_shown_value(value))
        if cut is not None:
            warn(f"tierstream: {cut}")


@example("tierstream dead-letters repair 0:42 --set amount=12.50 --unset channel")
def repair(
    address: AddressArgument,
    assigned: Annotated[list[str] | None, typer.Option("--set", help="FIELD=VALUE; may be given again.")] = None,
    unset: Annotated[list[str] | None, typer.Option(help="A field to remove; may be given again.")] = None,
    file: Annotated[Path | None, typer.Option(help="A file with the whole body, instead of the original.")] = None,
    key: Annotated[str | None, typer.Option(help="The record's key, if the original one is wrong.")] = None,
    by: ByOption = None,
    policy: SettingPolicyOption = None,
    again: AgainOption = False,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Repair a record, and send it to the topic it came from.

    First it is checked as a worker would, under --policy; a record that would be rejected again is not sent. A value of
    --set is JSON where that fits the field, else text. The key becomes the customer_id if the repair changes that.

    Sending an event twice is harmless as long as the first one is among the last 64 events counted for the customer: an
    event_id is counted once.
    """
    with _sentences():
        if not (assigned or unset or file or key is not None):
            raise refuse("there is nothing to repair; give --set, --unset, --file or --key, or use resend")
        sets = dict(parse_assignment(one) for one in assigned or [])
        body = None if file is None else _read_file(file)
        name = _by(by)
        dead_letters, decoder = _dead_letters(broker), _decoder(policy)
        [dead_letter] = _find(dead_letters, [address], again)
        if dead_letter.topic not in TOPIC_BODIES:
            raise fail(
                f"{dead_letter.name}: its topic {dead_letter.topic!r} is not among {', '.join(TOPIC_BODIES)}; "
                "dismiss it"
            )
        record = dead_letters.record(dead_letter)
        # A body from a file does not need the original one, which may be cut.
        before = record.value() if body is not None else dead_letters.original(dead_letter, record.value())
        after = repaired(before if body is None else body, dead_letter.topic, sets, unset or [])
        changed = changes(before, after)
        new_key = record.key() if key is None else key.encode()
        customer_id = (fields_of(after) or {}).get("customer_id")
        if key is None and isinstance(customer_id, str) and ("customer_id" in changed or not record.key()):
            new_key = customer_id.encode()
        left = unsendable(dead_letter, after, new_key, decoder)
        if left is not None and left.code != "too_late":
            hint = "; give --key, or --set customer_id" if left.code == "key_mismatch" else ""
            raise fail(
                f"{dead_letter.name} would be rejected again: {left.code}: {left.detail}{hint}. Nothing was sent"
            )
        if not as_json:
            _show_changes(changed, record.key(), new_key)
        place = None
        if not dry_run:
            confirm(f"Send it to {dead_letter.topic}?", yes, "nothing was sent; --yes sends without asking")
            place = dead_letters.repair(Sending(dead_letter, record.key(), new_key, after), name)
        if as_json:
            shown = {field: {"before": was, "after": now} for field, (was, now) in changed.items()}
            say_json({"address": dead_letter.name, "to": place, "changed": shown})
        else:
            done = "can be sent" if place is None else f"is repaired and sent: {place}"
            say(f"{dead_letter.name} {done}")


@example("tierstream dead-letters resend --reason unknown_currency --policy my-policy.toml")
def resend(
    addresses: Annotated[list[str] | None, typer.Argument(help="Dead letters, each PARTITION:OFFSET.")] = None,
    reason: ReasonOption = None,
    topic: TopicOption = None,
    since: SinceOption = None,
    all_open: Annotated[bool, typer.Option("--all-open", help="Send every open dead letter.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also send records that would be rejected again, or may be too late.")
    ] = False,
    by: ByOption = None,
    policy: SettingPolicyOption = None,
    again: AgainOption = False,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send the original records again.

    This is for a cause that is repaired elsewhere: a currency or a tier in the policy. Each is first checked as a
    worker would, under --policy; those that would be rejected again stay open.

    Sending an event twice is harmless as long as the first one is among the last 64 events counted for the customer: an
    event_id is counted once.
    """
    with _sentences():
        if [bool(addresses), reason is not None, all_open].count(True) != 1:
            raise refuse("say which dead letters: give their addresses, or --reason, or --all-open")
        if addresses and (topic is not None or since is not None):
            raise refuse("--topic and --since go with --reason or --all-open, not with addresses")
        if again and not addresses:
            raise refuse("--again goes with addresses: name the settled dead letters that are to be sent again")
        _check_kind(reason, topic)
        since_ms = 0 if since is None else units.parse_time(since)
        name = _by(by)
        dead_letters, decoder = _dead_letters(broker), _decoder(policy)
        if addresses:
            chosen: Sequence[DeadLetter] = _find(dead_letters, addresses, again)
        else:
            with _bar("reading") as on_progress:
                chosen = dead_letters.ledger(None, on_progress).select(reason, topic, since_ms)
        if chosen and not dry_run:
            confirm(f"Send {_count_text(len(chosen))} again?", yes, "nothing was sent; --yes sends without asking")
        resent, left = 0, Counter[str]()
        try:
            with _bar("sending") as on_progress:
                for dead_letter, why in dead_letters.resend(chosen, decoder, name, force=force, dry_run=dry_run):
                    if why is None:
                        resent += 1
                    else:
                        left[why.code] += 1
                        _report_left(dead_letter, why, left.total())
                    on_progress(resent + left.total(), len(chosen))
        finally:
            _summarize(resent, left, dry_run, as_json)
        if addresses and left:
            raise typer.Exit(FAILED)


@example('tierstream dead-letters dismiss 0:42 0:43 --note "test data of the shop"')
def dismiss(
    addresses: Annotated[list[str], typer.Argument(help="Dead letters, each PARTITION:OFFSET.")],
    note: Annotated[str, typer.Option(help="Why nothing has to be done about them.")],
    by: ByOption = None,
    again: AgainOption = False,
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Settle dead letters without sending anything."""
    with _sentences():
        if not note.strip():
            raise refuse("--note is empty; say why nothing has to be done about them")
        name = _by(by)
        dead_letters = _dead_letters(broker)
        chosen = _find(dead_letters, addresses, again)
        dead_letters.dismiss(chosen, name, note)
        if as_json:
            say_json({"dismissed": [dead_letter.name for dead_letter in chosen]})
        else:
            say(f"dismissed {_count_text(len(chosen))}")


# ------------------------------------------------------------ what the commands share
@contextmanager
def _sentences() -> Iterator[None]:
    """Turn a mistake of the user, a failure or Ctrl-C into a sentence and an exit status. Raises typer.Exit."""
    try:
        yield
    except (SettingsError, models.PolicyError, ValueError) as error:
        raise refuse(str(error)) from None
    except DeadLettersError as error:
        raise fail(str(error)) from None
    except KeyboardInterrupt:
        raise fail("stopped; what was sent is settled, the rest is open", INTERRUPTED) from None


def _dead_letters(broker: str | None) -> DeadLetters:
    return DeadLetters(load_settings(broker=broker))


def _decoder(policy: str | None) -> models.Decoder:
    return models.load(load_settings(policy=policy).policy).decoder()


def _by(name: str | None) -> str:
    if not name:
        raise refuse("it is not known who does this; give --by NAME, or set USER")
    return name


def _check_kind(reason: str | None, topic: str | None) -> None:
    if reason is not None and reason not in REASONS:
        raise refuse(f"{reason!r} is no reason code; they are {', '.join(REASONS)}")
    if topic is not None and topic not in TOPIC_BODIES:
        raise refuse(f"{topic!r} is no input topic; they are {', '.join(TOPIC_BODIES)}")


def _find(dead_letters: DeadLetters, addresses: Collection[str], settled: bool | None = None) -> list[DeadLetter]:
    """The dead letters at some addresses, each once. Raises DeadLettersError for one that is settled, if `settled` is
    False.
    """
    wanted = [parse_address(one) for one in addresses]
    # What repeats or settles a dead letter is in the same partition.
    with _bar("reading") as on_progress:
        ledger = dead_letters.ledger({partition for partition, _ in wanted}, on_progress)
    found: dict[Address, DeadLetter] = {}
    for typed, address in zip(addresses, wanted, strict=True):
        dead_letter = ledger.find(address)
        if dead_letter is None:
            raise DeadLettersError(
                f"there is no dead letter at {typed}; `tierstream dead-letters list` shows the open ones"
            )
        if settled is False and dead_letter.settled is not None:
            raise DeadLettersError(
                f"{dead_letter.name} is settled: {_in_words(dead_letter.settled)}. "
                "Nothing was done; give --again to do it nevertheless"
            )
        found[dead_letter.address] = dead_letter
    return list(found.values())


def _read_file(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise refuse(f"{file}: {error.strerror}; give a file with the whole body") from None


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on standard error, if that is a terminal and there are many dead letters."""
    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None, visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=total >= MANY)


# ------------------------------------------------------------ showing
def _console() -> Console:
    """Standard output, with a width for pipes, which have none."""
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)


def _count_text(count: int) -> str:
    return "1 dead letter" if count == 1 else f"{count:,} dead letters"


def _in_words(settled: Settled) -> str:
    words = f"{settled.how} by {settled.by} at {units.format_time(settled.at_ms)}"
    return words + (f", as {settled.to}" if settled.to else "") + (f": {settled.note}" if settled.note else "")


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="backslashreplace")


def _shown_value(value: bytes | None) -> str:
    if value is None:
        return "(no value)"
    try:
        text = orjson.dumps(orjson.loads(value), option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONDecodeError:
        text = value.decode(errors="backslashreplace")
    if len(text) > SHOWN_CHARACTERS:
        text = f"{text[:SHOWN_CHARACTERS]}…\n({len(value):,} bytes; --raw gives them all)"
    return printable(text)


def _as_json(dead_letter: DeadLetter) -> dict[str, Any]:
    settled = dead_letter.settled
    topic, partition, offset = dead_letter.source or (dead_letter.topic, None, None)
    return {
        "address": dead_letter.name,
        "at": units.format_time(dead_letter.at_ms),
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "key": dead_letter.key,
        "reason": dead_letter.reason,
        "detail": dead_letter.detail,
        "settled": settled
        and {
            "how": settled.how,
            "by": settled.by,
            "at": units.format_time(settled.at_ms),
            "note": settled.note,
            "to": settled.to,
        },
    }


def _show_list(dead_letters: Sequence[DeadLetter], limit: int, with_settled: bool) -> None:
    if not dead_letters:
        say("no such dead letters")
        return
    table = Table()
    for heading in ("address", "when"):
        table.add_column(heading, no_wrap=True)
    for heading in ("from", "key", "reason"):
        table.add_column(heading, overflow="fold")
    table.add_column("detail", no_wrap=True, overflow="ellipsis", min_width=20)
    if with_settled:
        table.add_column("settled", overflow="fold")
    for one in dead_letters[:limit]:
        cells = [one.name, units.format_time(one.at_ms)[:19] + "Z", one.where, one.key or "", one.reason, one.detail]
        if with_settled:
            cells.append("" if one.settled is None else f"{one.settled.how} by {one.settled.by}")
        table.add_row(*(Text(printable(cell.replace("\n", " "))) for cell in cells))
    _console().print(table)
    if len(dead_letters) > limit:
        say(f"and {len(dead_letters) - limit:,} more; see more by --limit, or fewer by --reason, --topic or --since")


def _show_counts(dead_letters: Sequence[DeadLetter], as_json: bool) -> None:
    counted = sorted(
        Counter((one.topic, one.reason) for one in dead_letters).items(), key=lambda item: (-item[1], item[0])
    )
    if as_json:
        say_json([{"topic": topic, "reason": reason, "letters": count} for (topic, reason), count in counted])
        return
    table = Table("topic", "reason", "dead letters", "means")
    table.columns[2].justify = "right"
    for (topic, reason), count in counted:
        table.add_row(*map(Text, (printable(topic), printable(reason), f"{count:,}", REASONS.get(reason, ""))))
    _console().print(table)


def _show_changes(changed: dict[str, tuple[Any, Any]], key: bytes | None, new_key: bytes | None) -> None:
    table = Table("field", "before", "after")
    rows = dict(changed)
    if key != new_key:
        rows["(key)"] = _text(key), _text(new_key)
    for name, (was, now) in rows.items():
        table.add_row(*(Text(printable(_short("—" if one is None else one))) for one in (name, was, now)))
    _console().print(table)


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…"


def _report_left(dead_letter: DeadLetter, left: NotSent, number: int) -> None:
    if number <= SHOWN_LEFT:
        warn(f"{dead_letter.name} is left, {left.code}: {printable(_short(left.detail))}")
    elif number == SHOWN_LEFT + 1:
        warn("more are left; the summary counts them")


def _summarize(resent: int, left: Counter[str], dry_run: bool, as_json: bool) -> None:
    if as_json:
        say_json({"can_be_resent" if dry_run else "resent": resent, "left": dict(left.most_common())})
        return
    reasons = ", ".join(f"{count:,} {code}" for code, count in left.most_common())
    done = f"{_count_text(resent)} can be resent" if dry_run else f"resent {_count_text(resent)}"
    say(f"{done}, left {left.total():,}" + (f" ({reasons})" if reasons else ""))
