"""Prints a customer's story to a terminal: a line for each event, and below it the changes and the announcements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from models import units
from streams.terminal import printable
from streams.workshop.explain.sentences import percent

SHOWN_ELSEWHERE: Final = ("lifetime_spend", "lifetime_orders", "level", "probability", "log_odds", "value_at_stake", "alert", "tier", "downgrade_at", "locked")  # fmt: skip
"""Fields that are not listed among the changes, because an announcement or another line shows them."""
BY_CLOCK: Final = "time alone"
MONEY: Final = ("spend",)
LEAST_SHOWN: Final = 0.005
"""Smaller contributions would be rounded to 0, so they are not shown."""
SHOWN_AHEAD: Final = 8


def print_story(console: Console, story: dict[str, Any], last: int | None) -> None:
    """Print the whole story or its last moments, the present, and what is ahead."""
    console.print(words(f"Customer {story['customer_id']} under {story['policy']}, as of {story['at']}", "bold"))
    console.print()
    moments = story["moments"]
    if last is not None and len(moments) == last:
        console.print(f"the last {last} moments; leave out --last for all", style="dim")
    before = [None, *moments[:-1]]
    if story.get("announced") is not None:
        console.print("Announced until now; the events are in a log", style="bold")
        announced = story["announced"] if last is None else story["announced"][-last:]
        said = [(words(one["occurred_at"]), _strong(one["text"])) for one in announced]
        print_rows(console, said or [(Text(""), words("nothing"))])
    if moments:
        print_rows(console, [row for was, one in zip(before, moments, strict=False) for row in _rows(was, one, story)])
    print_now(console, story)
    _print_ahead(console, story)


def print_rows(console: Console, rows: Sequence[tuple[Text, RenderableType]]) -> None:
    """Print two columns, the second as wide as the terminal allows."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print()


# ---------------------------------------------------------------- what happened
def _rows(
    previous: dict[str, Any] | None, moment: dict[str, Any], story: dict[str, Any]
) -> Iterator[tuple[Text, RenderableType]]:
    event = moment["event"]
    if event is None:
        by = BY_CLOCK if moment["kind"] == "clock" else f"{moment['cause']} of the policy: {moment['policy']}"
        yield words(moment["at"]), words(by, "italic")
    else:
        at = event["occurred_at"] or moment["at"] or "no time"
        yield words(str(at)), words(event["text"] + _verdict(moment))
    for line in _changes(previous, moment, story):
        yield Text(""), indented(words(line, "dim"))
    for one in moment["announcements"]:
        yield Text(""), indented(_strong(one["text"]))


def words(text: str, style: str = "") -> Text:
    """A text that may contain what others wrote, made safe for a terminal."""
    return Text(printable(text), style)


def indented(text: Text) -> RenderableType:
    """A paragraph below what it is about."""
    return Padding(text, (0, 0, 0, 2))


def _strong(text: str) -> Text:
    return words(text, "bold")


def _verdict(moment: dict[str, Any]) -> str:
    if moment["verdict"] == "repeat":
        return " (came again: changes nothing)"
    if moment["verdict"] == "rejected":
        return f" (rejected, {moment['reason']['code']}: {moment['reason']['detail']})"
    return f" (late: judged at {moment['at']})" if moment["late"] else ""


def _changes(previous: dict[str, Any] | None, moment: dict[str, Any], story: dict[str, Any]) -> Iterator[str]:
    currency, changed, after = story["currency"], moment["changed"], moment["after"]
    changes = [
        f"{name.replace('_', ' ')} {_value(name, was, currency) + ' → ' if was is not None else ''}{_value(name, now, currency)}"
        for name, (was, now) in changed.items()
        if name not in SHOWN_ELSEWHERE and (was or now)
    ]
    if changes:
        yield "; ".join(changes)
    if moment["verdict"] == "counted" and after is not None and after["probability"] is not None:
        steps = _probability_steps(previous, moment)
        if steps:
            yield f"no purchase in {story['horizon']}: {steps}"


def _probability_steps(previous: dict[str, Any] | None, moment: dict[str, Any]) -> str | None:
    """How the probability changed since the previous moment, by time and by this one; None if it did not."""
    before, after, moved = moment["before"], moment["after"], moment["moved"]
    was = None if previous is None or previous["after"] is None else previous["after"]["probability"]
    by_time, by_this = terms_in_words(moved["by_time"]), terms_in_words(moved["by_this"])
    if not (by_time or by_this or was is None):
        return None
    steps = [] if was is None else [percent(was)]
    if before is not None and before["probability"] is not None and (by_time or was is None):
        steps.append(
            f"{percent(before['probability'])} by time ({by_time})" if by_time else percent(before["probability"])
        )
    if by_this or not steps:
        steps.append(f"{percent(after['probability'])} ({by_this})" if by_this else percent(after["probability"]))
    return " → ".join(steps)


def _value(name: str, value: Any, currency: str) -> str:
    if value is None:
        return "none"
    return money(value, currency) if name in MONEY else str(value)


def terms_in_words(moved: dict[str, float]) -> str:
    """The terms of the score that moved, and by how much; terms that moved by less than LEAST_SHOWN are left out."""
    large = {name: value for name, value in moved.items() if abs(value) >= LEAST_SHOWN}
    return ", ".join(f"{name.replace('_', ' ')} {signed(value, 2)}" for name, value in large.items())


def signed(value: float, digits: int) -> str:
    """A number with its sign; the minus sign is as wide as the plus sign."""
    return f"{value:+.{digits}f}".replace("-", "−")


def money(amount: str, currency: str) -> str:
    """An amount on the wire, as people read it."""
    return units.money_in_words(units.parse_minor(amount, units.currency_decimals(currency)), currency)


# ---------------------------------------------------------------- the present
def print_now(console: Console, story: dict[str, Any]) -> None:
    """Print the customer as of the story's instant."""
    now, currency = story["now"], story["currency"]
    console.print(f"Now, at {story['at']}", style="bold")
    if now is None:
        console.print("nothing is known of them: their data was erased")
        console.print()
        return
    risk, alert = now["risk"], now["risk"]["alert"]
    rows: list[tuple[str, str]] = [("tier", f"{now['tier']} since {now['since']}{_pending(now)}")]
    rows += [(name, now[name]["text"]) for name in ("keeps", "reaches") if now[name]]
    if "life_cycle" in now:
        life = now["life_cycle"]
        rows.append(("stage", f"{life['stage']} since {life['since']}"))
    rows.append(("window", f"{money(now['monetary'], currency)} in {now['frequency']} orders"))
    if risk["probability"] is not None:
        level = risk["level"] + (f" since {risk['since']}" if risk["since"] else "")
        rows.append(
            (
                "risk",
                f"{level}; {percent(risk['probability'])} that nothing is bought in {story['horizon'] or 'the horizon'}",
            )
        )
        for term in risk["contributions"]:
            rows.append(("", f"{signed(term['log_odds'], 3)}  {term['term'].replace('_', ' ')}: {term['text']}"))
        total = sum(term["log_odds"] for term in risk["contributions"])
        rows.append(("", f"{signed(total, 3)}  log-odds in all"))
        stake, lifetime = money(risk["value_at_stake"], currency), money(risk["lifetime_value"], currency)
        rows.append(("value", f"{stake} at stake, lifetime value {lifetime}"))
    if alert is not None:
        rows.append(("alert", alert_in_words(alert)))
    rows.append(("due next", now["due_at"] or "never: time alone changes nothing any more"))
    print_rows(console, [(words(name), words(text)) for name, text in rows])


def _pending(now: dict[str, Any]) -> str:
    if now["lock"] is not None:
        return f", locked: {now['lock']['reason']}"
    return f", lost at {now['downgrade_at']}" if now["downgrade_at"] else ""


def alert_in_words(alert: dict[str, Any]) -> str:
    """The alert of a customer, in words."""
    text = f"{alert['number']}: {alert['state']} since {alert['since']}"
    if alert["owner"]:
        text += f", {alert['owner']} has it"
    return text + (f", deadline {alert['deadline']}" if alert["deadline"] else "")


# ---------------------------------------------------------------- what is ahead
def _print_ahead(console: Console, story: dict[str, Any]) -> None:
    if story["without_a_purchase"] is None:
        console.print(
            "The view can't tell what a purchase would do: give --broker, for the table, or a log.", style="dim"
        )
        return
    if story["with_one_purchase"]:
        console.print("With one purchase", style="bold")
        for one in story["with_one_purchase"]:
            console.print(words(one["text"]))
        console.print()
    console.print("Without a purchase", style="bold")
    ahead = story["without_a_purchase"]
    rows: list[tuple[Text, RenderableType]] = [(words(one["at"]), _ahead(one)) for one in ahead[:SHOWN_AHEAD]]
    if len(ahead) > SHOWN_AHEAD:
        rows.append((Text(""), words(f"and {len(ahead) - SHOWN_AHEAD} more instants; --json has them", "dim")))
    print_rows(console, rows or [(Text(""), words("time alone changes nothing within five years"))])


def _ahead(one: dict[str, Any]) -> Text:
    return Text("\n").join(words(announced["text"]) for announced in one["announcements"])
