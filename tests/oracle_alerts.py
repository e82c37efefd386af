"""The ledger of alerts of docs/semantics.md, for the oracle: the alert is one dict, and the rules are tried one by one."""

from __future__ import annotations

from typing import Any

from tests.oracle_facts import Rules, instant

SILENT = {"base", "rhythm", "silence", "basket_trend"}
FINISHED = {"saved", "lost", "dismissed", "recovered"}


class Ledger:
    """One customer's alerts. `announcements` collects (change, before, after), where before and after are (state,
    owner).
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.alert: dict[str, Any] | None = None
        self.announcements: list[tuple[str, Any, Any]] = []

    @property
    def running(self) -> bool:
        return self.alert is not None and self.alert["state"] not in FINISHED

    def announce(self, change: str, **news: Any) -> None:
        assert self.alert is not None
        before = self.state_and_owner()
        self.alert.update(news)
        self.announcements.append((change, before, self.state_and_owner()))

    def state_and_owner(self) -> tuple[str, str] | None:
        return None if self.alert is None or not self.alert["announced"] else (self.alert["state"], self.alert["owner"])

    # ------------------------------------------------------------ judging
    def judge(
        self, now: int, level: int, rose: bool, cause: str, complaint_until: int | None, last: int, within: int
    ) -> None:
        if self.running:
            self.follow(now, level, cause, complaint_until, last, within)
        elif rose and level >= self.rules.alert_level:
            old = self.alert
            cool = None if old is None or level > old["level"] else old["since"] + self.rules.cool_down
            self.alert = {
                "number": 1 if old is None else old["number"] + 1, "announced": False, "state": "held", "owner": "", "since": now,
                "opened": now, "deadline": None, "until": None, "cool": cool, "level": level, "cause": cause, "hold": "",
                "reason": "", "breached": False,
            }  # fmt: skip
            why, until = self.why_held(now, complaint_until)
            if why:
                self.announce("held", hold=why, until=until, announced=True)
            else:
                self.open(now, within)

    def follow(self, now: int, level: int, cause: str, complaint_until: int | None, last: int, within: int) -> None:
        alert = self.alert
        assert alert is not None
        if level < self.rules.alert_level or (alert["cause"] in SILENT and last > alert["opened"]):
            return self.announce("recovered", state="recovered", since=now, until=None, hold="")
        worse = level > alert["level"]
        other = cause != alert["cause"]
        if alert["state"] == "snoozed" and (worse or now >= alert["until"]):
            self.announce("woke", state="acknowledged" if alert["owner"] else "open", since=now, until=None)
        alert["level"] = level
        if alert["state"] in ("held", "open"):
            alert["cause"] = cause
            if worse and alert["state"] == "held":
                alert["cool"] = None
            why, until = self.why_held(now, complaint_until)
            if why and alert["state"] == "open":
                self.announce("held", state="held", since=now, hold=why, until=until, deadline=None, breached=False)
            elif why:
                alert.update(hold=why, until=until)
            elif alert["state"] == "held":
                self.open(now, within)
            elif worse or other:
                self.announce("updated", deadline=min(alert["deadline"], now + within))
        elif worse:
            self.announce(
                "updated", deadline=None if alert["deadline"] is None else min(alert["deadline"], now + within)
            )
        due = alert["deadline"]
        if alert["state"] in ("open", "acknowledged") and due is not None and due <= now and not alert["breached"]:
            self.announce("breached", breached=True)
        return None

    def why_held(self, now: int, complaint_until: int | None) -> tuple[str, int | None]:
        assert self.alert is not None
        if self.alert["cool"] is not None and now < self.alert["cool"]:
            return "cool-down", self.alert["cool"]
        if self.rules.hold_silence and self.alert["cause"] in SILENT and complaint_until is not None:
            return "complaint-open", complaint_until
        return "", None

    def open(self, now: int, within: int) -> None:
        self.announce(
            "opened", state="open", since=now, opened=now, deadline=now + within, until=None, hold="", announced=True
        )

    def next_crossing(self) -> int | None:
        alert = self.alert
        if alert is None or not self.running:
            return None
        if alert["state"] in ("held", "snoozed"):
            return int(alert["until"])
        waits = alert["state"] in ("open", "acknowledged") and not alert["breached"]
        return alert["deadline"] if waits else None

    # ------------------------------------------------------------ actions
    def act(self, wire: dict[str, Any], now: int, within: int) -> None:
        alert = self.alert
        if not self.running or alert is None or wire.get("number", alert["number"]) != alert["number"]:
            return
        action, has, actor, named = wire["action"], alert["owner"], wire.get("actor") or "", wire.get("owner")
        news: dict[str, Any] = {"since": now, "until": None, "hold": "", "reason": wire.get("reason") or ""}
        fresh = alert["deadline"] if alert["deadline"] is not None else now + within
        match action:
            case "acknowledged" if not has or (named and named != has):
                state = "contacted" if alert["state"] == "contacted" else "acknowledged"
                self.announce(action, **news | {"state": state, "owner": named or actor, "deadline": fresh})
            case "contacted" if alert["state"] != "contacted":
                self.announce(action, **news | {"state": action, "owner": has or named or actor})
            case "snoozed" if instant(wire["until"]) > now:
                until = instant(wire["until"])
                news |= {"state": action, "until": until, "deadline": until + within, "breached": False}
                self.announce(action, **news)
            case "released" if alert["state"] not in ("held", "open"):
                self.announce(action, **news | {"state": "open", "owner": "", "deadline": fresh})
            case "saved" | "lost" | "dismissed":
                self.announce(action, **news | {"state": action, "owner": has or named or actor})
