"""The oracle, first half: what follows from a policy and a plain list of events according to docs/semantics.md.

Section headings are those of the page. For the second half, the order of events, see oracle.py.
"""

from __future__ import annotations

import math
import tomllib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import Any

DAY = 86_400_000
WEEK = 7 * DAY
UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": DAY, "w": WEEK}
DECIMALS = {"JPY": 0, "KRW": 0, "KWD": 3, "BHD": 3}  # the currencies of the tests that do not have two
SEVERITIES = ["low", "medium", "high", "critical"]
STATUSES = ["opened", "escalated", "resolved", "reopened"]
GAPS = (("high-frequency", "7d"), ("active", "30d"), ("regular", "90d"))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LONGEST_SILENCE = 100 * 365 * DAY
CLOSE = 2e-14
"""How much the order of floating-point operations may change a score."""


# ---------------------------------------------------------------- the policy and the events, parsed independently
class Rules:
    """The settings of a policy file, with defaults for those that it leaves out."""

    def __init__(self, text: str) -> None:
        policy = tomllib.loads(text)
        window, downgrade = policy["window"], policy.get("downgrade", {})
        risk, satisfaction = policy["risk"], policy.get("satisfaction", {})
        complaints = risk["complaints"]
        self.currency: str = policy["currency"]
        self.rates = {currency: Fraction(rate) for currency, rate in policy.get("rates", {}).items()}
        self.period = duration(policy.get("period", "30d"))
        self.kind = window.get("kind", "trailing")
        self.length = duration(window["length"]) if self.kind == "trailing" else 366 * DAY
        self.bucket = duration(window.get("bucket", "1h"))
        self.lateness = duration(window["lateness"]) if "lateness" in window else self.length
        self.keep = max(self.length, self.lateness + DAY)
        offset = window.get("utc_offset", "+00:00")
        self.utc_offset = (-1 if offset[0] == "-" else 1) * (int(offset[1:3]) * 60 + int(offset[4:6])) * 60_000
        self.tiers = [{"name": policy.get("base_tier", "none")}, *policy["tiers"]]
        self.names = [tier["name"] for tier in self.tiers]
        self.score_terms: dict[str, Any] = policy.get("score", {})
        self.grace = downgrade.get("grace", "30d")
        self.step = downgrade.get("step", "one")
        self.min_hold = duration(downgrade.get("min_hold", "0d"))
        self.valid_for = duration(satisfaction.get("valid_for", "365d"))
        self.assume = satisfaction.get("assume")
        self.mbg = risk["r"], risk["alpha_weeks"], risk["a"], risk["b"]
        self.horizon = duration(risk.get("horizon", "90d")) / WEEK
        self.card = {"intercept": 0, "model": 1, "silence": 0, "frequency": 0, "spend": 0, "basket_trend": 0}
        self.card |= risk.get("card", {})
        self.typical = self.minor(self.card.get("typical_spend", "1"), self.currency)
        self.levels = ["none"] + [level["name"] for level in risk["levels"]]
        self.raise_at = [math.nan] + [log_odds(level["raise_at"]) for level in risk["levels"]]
        self.ease_below = [math.nan] + [log_odds(level["ease_below"]) for level in risk["levels"]]
        self.severity, self.status = complaints["severity"], complaints["status"]
        self.repeat_within = duration(complaints.get("repeat_within", "60d"))
        self.repeat_factor = complaints.get("repeat_factor", 1.5)
        self.half_life = duration(complaints.get("half_life", "60d"))
        self.fade_step = duration(complaints.get("step", "7d"))
        self.forget_after = duration(complaints.get("forget_after", "365d"))
        self.protection = complaints.get("protection", 0.25)
        self.neutral = risk.get("satisfaction", {}).get("neutral", 70)
        self.per_ten_points = risk.get("satisfaction", {}).get("per_ten_points", 0.15)

        ledger = policy.get("alerts")
        self.has_alerts = ledger is not None
        ledger = ledger or {}
        self.alert_level = self.levels.index(ledger.get("level", self.levels[1]))
        self.cool_down = duration(ledger.get("cool_down", "30d"))
        self.alert_deadline = duration(ledger.get("deadline", "7d"))
        self.hold_silence = ledger.get("hold_silence", True)
        self.actions = policy.get("actions", [])

        life = policy.get("life_cycle")
        self.has_life = life is not None
        life = life or {}
        self.loyal_days = life.get("loyal_days", 5)
        self.loyal_after = duration(life.get("loyal_after", "180d"))
        self.cooling_after = duration(life.get("cooling_after", "60d"))
        self.lost_after = duration(life.get("lost_after", "180d"))
        self.gaps = [(name, duration(life.get(name.replace("-", "_"), otherwise))) for name, otherwise in GAPS]

    def minor(self, amount: str | float, currency: str) -> int:
        """An amount in minor units of the policy's currency, rounded half to even."""
        return rounded(str(amount), self.rates.get(currency, 1), DECIMALS.get(self.currency, 2))


@cache
def rounded(amount: str, rate: Fraction | int, decimals: int) -> int:
    return round(Fraction(Decimal(amount)) * rate * 10**decimals)


@cache
def duration(text: str) -> int:
    digits = text.rstrip("mshdw").strip()
    return int(digits) * UNITS[text[len(digits) :].strip()]


def instant(written: str | int) -> int:
    return (
        written if isinstance(written, int) else (datetime.fromisoformat(written) - EPOCH) // timedelta(milliseconds=1)
    )


def log_odds(probability: float) -> float:
    return math.log(probability / (1 - probability))


class Event:
    """An event as it arrived, with its time and its amount computed."""

    def __init__(self, wire: dict[str, Any], rules: Rules) -> None:
        self.wire = wire
        self.customer_id: str = wire["customer_id"]
        self.id = wire["event_id"]
        self.full_id = f"{wire['topic']}/{wire['event_id']}"
        self.at = instant(wire["occurred_at"])
        self.what = {"purchases": wire.get("kind"), "commands": wire.get("command")}.get(wire["topic"], wire["topic"])
        self.amount = rules.minor(wire["amount"], wire["currency"]) if wire["topic"] == "purchases" else 0
        original = wire.get("original_occurred_at")
        self.booked_at = self.at if original is None else instant(original)


# ---------------------------------------------------------------- Facts
class Known:
    """Everything that follows from a list of events in any order."""

    def __init__(self, rules: Rules, events: list[Event]) -> None:
        self.rules = rules
        purchases = [event for event in events if event.what == "purchase"]
        refunds = [event for event in events if event.what == "refund"]
        complaints = [event for event in events if event.what == "complaints"]
        self.first = min((event.at for event in purchases), default=None)
        self.last = max((event.at for event in purchases), default=None)
        self.purchase_days = len({event.at // DAY for event in purchases})
        self.last_day = sum(event.amount for event in purchases if event.at // DAY == (self.last or 0) // DAY)
        full_refunds = [event for event in refunds if event.wire.get("full_order")]
        self.orders = len(purchases) - len(full_refunds)
        self.spend = sum(event.amount for event in purchases) - sum(event.amount for event in refunds)

        self.buckets: list[tuple[int, int, int, int]] = []  # number, purchases, orders, spend
        for number in sorted({event.booked_at // rules.bucket for event in purchases + refunds}):
            bought = [event for event in purchases if event.booked_at // rules.bucket == number]
            given_back = [event for event in refunds if event.booked_at // rules.bucket == number]
            orders = len(bought) - len([event for event in given_back if event in full_refunds])
            spend = sum(event.amount for event in bought) - sum(event.amount for event in given_back)
            if bought or orders or spend:
                self.buckets.append((number, len(bought), orders, spend))

        answers = [(event.at, event.wire["score"], event.wire["kind"]) for event in events if event.what == "feedback"]
        answers += [
            (event.at, event.wire["satisfaction"], "complaint")
            for event in complaints
            if event.wire.get("satisfaction") is not None
        ]
        self.answer = max(answers, default=None)

        prospects = [
            (event.at, sum(event.wire[one] for one in ("money", "authority", "need")))
            for event in events
            if event.what == "prospects"
        ]
        self.prospect = max(prospects, default=None)

        regions = [(event.at, event.wire["region"]) for event in events if event.wire.get("region")]
        self.region = max(regions, default=None)

        steps = {
            (
                event.at,
                event.wire["complaint_id"],
                STATUSES.index(event.wire["status"]),
                SEVERITIES.index(event.wire["severity"]),
                event.wire.get("category") or "",
            )
            for event in complaints
        }
        self.steps = sorted(steps)[-64:]

    def as_kept_at(self, clock: int) -> dict[str, Any]:
        """The facts that are kept at an instant."""
        rules = self.rules
        return {
            "first_purchase": self.first,
            "last_purchase": self.last,
            "purchase_days": self.purchase_days,
            "orders": self.orders,
            "spend": self.spend,
            "last_day": self.last_day,
            "buckets": [kept for kept in self.buckets if kept[0] * rules.bucket + rules.keep > clock],
            "steps": [step for step in self.steps if step[0] + rules.forget_after > clock],
            "answer": self.answer,
            "prospect": self.prospect,
            "region": self.region,
        }

    def year(self, t: int) -> tuple[int, int]:
        """The start of the window's year that holds `t`, and its end."""
        offset, month, day = self.rules.utc_offset, 1, 1
        if self.rules.kind == "anniversary-year" and self.first is not None:
            first = EPOCH + timedelta(milliseconds=self.first + offset)
            month, day = (2, 28) if (first.month, first.day) == (2, 29) else (first.month, first.day)
        around = (EPOCH + timedelta(milliseconds=t)).year
        starts = [
            instant(f"{year:04}-{month:02}-{day:02}T00:00:00Z") - offset for year in range(around - 2, around + 4)
        ]
        return max(start for start in starts if start <= t), min(start for start in starts if start > t)

    def measures(self, t: int) -> dict[str, Any]:
        rules, seen = self.rules, []
        year_start, year_end = (0, 0) if rules.kind == "trailing" else self.year(t)
        for number, _, orders, spend in self.buckets:
            start = number * rules.bucket
            if start <= t < start + rules.length if rules.kind == "trailing" else year_start <= start < year_end:
                seen.append((start, orders, spend))
        answered = self.answer is not None and t < self.answer[0] + rules.valid_for
        return {
            "spend": sum(spend for _, _, spend in seen),
            "orders": max(sum(orders for _, orders, _ in seen), 0),
            "active_periods": len({start // rules.period for start, orders, _ in seen if orders > 0}),
            "recency": None if self.last is None else t - self.last,
            "satisfaction": self.answer[1] if self.answer and answered else rules.assume,
        }

    # ------------------------------------------------------------ Tiers
    def qualifies_for(self, t: int) -> int:
        measures = self.measures(t)
        return max(rank for rank, tier in enumerate(self.rules.tiers) if self.holds(tier, measures))

    def holds(self, tier: dict[str, Any], measures: dict[str, Any]) -> bool:
        recency, satisfaction = measures["recency"], measures["satisfaction"]
        minor = self.rules.minor
        return (
            ("min_spend" not in tier or measures["spend"] >= minor(tier["min_spend"], self.rules.currency))
            and ("min_orders" not in tier or measures["orders"] >= tier["min_orders"])
            and ("min_active_periods" not in tier or measures["active_periods"] >= tier["min_active_periods"])
            and (
                "min_satisfaction" not in tier
                or (satisfaction is not None and satisfaction >= tier["min_satisfaction"])
            )
            and ("max_recency" not in tier or (recency is not None and recency <= duration(tier["max_recency"])))
            and ("min_score" not in tier or self.rfm_score(measures) >= Decimal(str(tier["min_score"])))
        )

    def rfm_score(self, measures: dict[str, Any]) -> Decimal:
        terms, recency = self.rules.score_terms, measures["recency"]
        points = {
            "recency": [
                recency is not None and recency <= duration(limit) for limit in terms["recency"]["breakpoints"]
            ],
            "frequency": [measures["orders"] >= int(limit) for limit in terms["frequency"]["breakpoints"]],
            "monetary": [
                measures["spend"] >= self.rules.minor(limit, self.rules.currency)
                for limit in terms["monetary"]["breakpoints"]
            ],
        }
        return sum((Decimal(str(terms[name]["weight"])) * (1 + sum(points[name])) for name in points), Decimal(0))

    def instants_for_tiers(self, clock: int) -> list[int]:
        """Every instant after the clock at which a measure can pass a requirement of a tier."""
        rules = self.rules
        found = [number * rules.bucket + rules.length for number, *_ in self.buckets]
        if rules.kind != "trailing":
            this_year_end = self.year(clock)[1]
            found = [this_year_end, self.year(this_year_end)[1]]
        limits = [duration(tier["max_recency"]) for tier in rules.tiers if "max_recency" in tier]
        limits += [duration(limit) for limit in rules.score_terms.get("recency", {}).get("breakpoints", [])]
        if self.last is not None:
            found += [self.last + limit + 1 for limit in limits]
        if self.answer is not None:
            found.append(self.answer[0] + rules.valid_for)
        # Their neighbours too: should one of these crossings be off by a millisecond, judging still finds the first change.
        around = {at + shift for at in found for shift in (-1, 0, 1)}
        return sorted(at for at in around if at > clock)

    # ------------------------------------------------------------ Risk
    def too_close_to_call(self, t: int) -> bool:
        """Whether the last bits of the score decide if a threshold is crossed at `t` or a millisecond later or earlier."""
        scores = [self.risk_score(at) for at in (t - 1, t)]
        return any(abs(score - threshold) < CLOSE for score in scores for threshold in self.rules.raise_at[1:])

    def x_and_t_x(self, t: int) -> tuple[int, float, float]:
        """x, t_x and T."""
        assert self.first is not None and self.last is not None
        x = max(self.purchase_days - 1, 0)
        return x, (self.last - self.first) / WEEK if x > 0 else 0.0, (t - self.first) / WEEK

    def of_purchases(self, x: int, t_x: float, age: float) -> float:
        """M(x, t_x, T)."""
        r, alpha, a, b = self.rules.mbg
        left = a / (b + x) * ((alpha + age) / (alpha + t_x)) ** (r + x)
        not_within_horizon = ((alpha + age) / (alpha + age + self.rules.horizon)) ** (r + x)
        return math.log((left + not_within_horizon) / (1 - not_within_horizon))

    def basket_trend(self) -> float:
        typical, mean = self.rules.typical, max(self.spend, 0) / self.purchase_days
        return math.log((typical + self.last_day) / (typical + mean)) if self.last_day else 0.0

    def risk_score(self, t: int) -> float:
        x, t_x, age = self.x_and_t_x(t)
        card, mean = self.rules.card, max(self.spend, 0) / self.purchase_days
        # With the card as it is by default, base + rhythm + silence are, by their definition, M(x, t_x, T).
        of_card = (
            card["intercept"]
            + card["model"] * self.of_purchases(x, t_x, age)
            + card["silence"] * math.log(1 + (age - t_x) / self.rules.horizon)
            + card["frequency"] * math.log(1 + x)
            + card["spend"] * math.log(1 + mean / self.rules.typical)
            + card["basket_trend"] * self.basket_trend()
        )
        return of_card + sum(self.complaints_score(t)) + self.satisfaction_score(t)

    def main_cause(self, t: int) -> str:
        """The largest term on top of the base; terms that differ only in the last bits count as equal."""
        assert self.first is not None
        x, t_x, age = self.x_and_t_x(t)
        card, satisfaction = self.rules.card, self.satisfaction_score(t)
        silence = card["model"] * (self.of_purchases(x, t_x, age) - self.of_purchases(x, t_x, t_x))
        silence += card["silence"] * math.log(1 + (age - t_x) / self.rules.horizon)
        sizes = {"silence": silence, "complaints": sum(self.complaints_score(t)), "satisfaction": satisfaction}
        sizes["basket_trend"] = card["basket_trend"] * self.basket_trend()
        largest = max(sizes.values())
        if largest > CLOSE:
            return next(name for name, size in sizes.items() if size > largest - CLOSE)
        rhythm = card["model"] * (self.of_purchases(x, t_x, t_x) - self.of_purchases(0, 0.0, 0.0))
        return "rhythm" if rhythm > CLOSE else "base"

    def open_until(self, t: int) -> int | None:
        """When the last of the complaints that are open at `t` is forgotten; None if none is open."""
        remembered = [step for step in self.steps if step[0] + self.rules.forget_after > t]
        found = []
        for complaint_id in {step[1] for step in remembered}:
            latest = max(step for step in remembered if step[1] == complaint_id)
            if STATUSES[latest[2]] != "resolved":
                found.append(latest[0] + self.rules.forget_after)
        return max(found, default=None)

    def complaints_score(self, t: int) -> list[float]:
        if not self.steps:
            return []
        rules = self.rules
        x = max(self.purchase_days - 1, 0)
        remembered = [step for step in self.steps if step[0] + rules.forget_after > t]
        complaints = []
        for complaint_id in {step[1] for step in remembered}:
            steps = [step for step in remembered if step[1] == complaint_id]
            complaints.append((min(step[0] for step in steps), complaint_id, steps))
        complaints.sort()
        adds = []
        for index, (opened, _, steps) in enumerate(complaints):
            changed, _, status, _, _ = max(steps)
            severity = max(step[3] for step in steps)
            repeated = index > 0 and opened - complaints[index - 1][0] <= rules.repeat_within
            k = (t - changed) // rules.fade_step
            adds.append(
                rules.severity[SEVERITIES[severity]]
                * rules.status[STATUSES[status]]
                * (rules.repeat_factor if repeated else 1)
                * 2 ** (-(k * rules.fade_step) / rules.half_life)
                / (1 + rules.protection * math.log(1 + x))
            )
        return adds

    def satisfaction_score(self, t: int) -> float:
        if self.answer is None or t >= self.answer[0] + self.rules.valid_for:
            return 0.0
        return (self.rules.neutral - self.answer[1]) * self.rules.per_ten_points / 10

    # ------------------------------------------------------------ Life cycle
    def stage_after(self, stage: str, since: int, t: int) -> str:
        """The stage at `t` of a customer who has been in `stage` since `since`."""
        assert self.first is not None and self.last is not None
        if t - self.last > self.rules.lost_after:
            return "lost"
        if t - self.last > self.rules.cooling_after:
            return "cooling"
        if stage == "lost" or (stage == "won-back" and since >= self.last):
            return "won-back"
        if self.purchase_days == 1:
            return "new"
        loyal = self.purchase_days >= self.rules.loyal_days and self.last - self.first >= self.rules.loyal_after
        return "loyal" if loyal else "active"

    def behaviour(self) -> str:
        assert self.first is not None and self.last is not None
        if self.purchase_days > 1:
            for name, most in self.rules.gaps:
                if Fraction(self.last - self.first, self.purchase_days - 1) <= most:
                    return name
        return "occasional"

    def level_after(self, level: int, t: int) -> int:
        """The level at `t` of a customer who is at `level`."""
        score, start = self.risk_score(t), level
        while level + 1 < len(self.rules.levels) and score >= self.rules.raise_at[level + 1]:
            level += 1
        if level == start:
            while level > 0 and score < self.rules.ease_below[level]:
                level -= 1
        return level

    def instants_for_risk(self, clock: int, end: int) -> list[int]:
        """Every instant after the clock at which the score can jump, and last the one after which nothing changes."""
        rules = self.rules
        found = [step[0] + rules.forget_after for step in self.steps]
        for complaint_id in {step[1] for step in self.steps}:
            changed = max(step for step in self.steps if step[1] == complaint_id)[0]
            found += [changed + k * rules.fade_step for k in range(rules.forget_after // rules.fade_step + 1)]
        if self.answer is not None:
            found.append(self.answer[0] + rules.valid_for)
        return [*sorted({at for at in found if clock < at < end}), end]

    def next_risk_change(self, level: int, clock: int) -> int | None:
        if self.last is None or clock >= self.last + LONGEST_SILENCE:
            return None
        end, unchanged = self.last + LONGEST_SILENCE, clock
        for jump in self.instants_for_risk(clock, end):
            if self.level_after(level, jump - 1) != level:
                changed = jump - 1
                while changed - unchanged > 1:
                    middle = (unchanged + changed) // 2
                    if self.level_after(level, middle) == level:
                        unchanged = middle
                    else:
                        changed = middle
                return changed
            if jump < end and self.level_after(level, jump) != level:
                return jump
            unchanged = jump
        return None
