"""Churn risk: the probability of no purchase within the horizon, as a sum of named log-odds.

    score = base + rhythm + silence + complaints + satisfaction + frequency + spend + basket trend

The first three are the parts of MBG/NBD's log-odds: those of any new customer (base), what the customer's purchases add
(rhythm), and what the time since the last purchase adds (silence, never negative). A score card fitted to the
policy's own customers weights them and adds the last three (`Card`). Complaints fade in steps, so between two
steps the score only rises, and every instant at which it crosses a threshold can be computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from mypy_extensions import mypyc_attr

from models import units
from models.bodies import STATUSES
from models.customer import NEVER_MS, Facts
from models.mbg_nbd import LeastSilence, MbgNbd, Silence

LONGEST_SILENCE_MS: Final = 100 * 365 * units.DAY_MS
"""A threshold that the score does not cross in a hundred years of silence counts as never crossed."""

DIGITS: Final = 12
"""Decimals kept of a log-odds: far finer than any use, coarse enough to hide the last bits of a math library."""
SCALE: Final = 1e12
LARGEST_SCALED: Final = 1e3
PROBABILITY_SCALE: Final = 1e6
"""Probabilities have six decimals."""
RESOLVED: Final = STATUSES.index("resolved")


@dataclass(frozen=True, slots=True)
class Level:
    """A risk level: raised when the score reaches `raise_at`, eased when it falls below `ease_below` (log-odds)."""

    name: str
    rank: int
    raise_at: float
    ease_below: float


@dataclass(frozen=True, slots=True)
class Card:
    """The weights of a logistic score card (docs/risk.md). With the defaults the score is the model's.

        intercept + model * log-odds of no purchase + silence * ln(1 + silence / horizon) + frequency * ln(1 + x)
                  + spend * ln(1 + mean / typical) + basket_trend * ln((typical + last) / (typical + mean))

    `mean` is the mean net spend of a day with a purchase, `last` the spend of the last such day. `model` and `silence`
    are not negative and not both zero, so the score rises with silence; the other weights are not positive.
    """

    intercept: float = 0.0
    model: float = 1.0
    silence: float = 0.0
    frequency: float = 0.0
    spend: float = 0.0
    basket_trend: float = 0.0
    typical_minor: int = 1
    """The spend of a typical day with a purchase, in minor units."""


@dataclass(frozen=True, slots=True)
class ComplaintRisk:
    """How complaints count; see docs/semantics.md. Lists are indexed like events.SEVERITIES and events.STATUSES."""

    severity: tuple[float, ...]
    status: tuple[float, ...]
    repeat_within_ms: int
    repeat_factor: float
    half_life_ms: int
    step_ms: int
    forget_after_ms: int
    protection: float


@dataclass(frozen=True, slots=True)
class Complaint:
    """One complaint, combined from its steps, and what it adds to the score."""

    complaint_id: str
    category: str
    severity: int
    status: int
    opened_at_ms: int
    changed_at_ms: int
    repeated: bool
    log_odds: float


@mypyc_attr(acyclic=True, free_list_len=1)
@dataclass(init=False, slots=True)
class Score:
    """A risk score and its terms. `log_odds` is their sum."""

    base: float
    rhythm: float
    silence: float
    complaints: float
    satisfaction: float
    frequency: float
    spend: float
    basket_trend: float
    log_odds: float

    def __init__(
        self,
        base: float,
        rhythm: float,
        silence: float,
        complaints: float,
        satisfaction: float,
        frequency: float,
        spend: float,
        basket_trend: float,
    ) -> None:
        self.base = base
        self.rhythm = rhythm
        self.silence = silence
        self.complaints = complaints
        self.satisfaction = satisfaction
        self.frequency = frequency
        self.spend = spend
        self.basket_trend = basket_trend
        self.log_odds = _rounded(base + rhythm + silence + complaints + satisfaction + frequency + spend + basket_trend)

    @property
    def probability(self) -> float:
        """The score as a probability, to six decimals."""
        return probability_of(self.log_odds)


@dataclass(frozen=True)
class RiskModel:
    """The risk part of a policy. `levels` ascend and leave out the base level, which has rank 0."""

    mbg: MbgNbd
    fitted_on: str
    horizon_ms: int
    levels: tuple[Level, ...]
    complaint_risk: ComplaintRisk
    satisfaction_neutral: int
    satisfaction_per_point: float
    satisfaction_valid_for_ms: int
    card: Card = field(default_factory=Card)

    horizon_weeks: float = field(init=False)
    """The horizon in the model's unit."""
    _base: list[float] = field(init=False, compare=False, repr=False, default_factory=list)
    """`base`, once it was computed: for the model of a faulty policy it can't always be computed."""
    _ranks: dict[str, int] = field(init=False, compare=False, repr=False)
    _has_traits: bool = field(init=False, compare=False, repr=False)
    _least_silence: LeastSilence = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        horizon_weeks = self.horizon_ms / units.WEEK_MS
        object.__setattr__(self, "horizon_weeks", horizon_weeks)
        object.__setattr__(self, "_ranks", {level.name: level.rank for level in self.levels})
        card, longest_weeks = self.card, LONGEST_SILENCE_MS / units.WEEK_MS
        object.__setattr__(
            self, "_has_traits", bool(card.intercept or card.frequency or card.spend or card.basket_trend)
        )
        least_silence = LeastSilence(self.mbg, horizon_weeks, longest_weeks, card.model, card.silence)
        object.__setattr__(self, "_least_silence", least_silence)

    @property
    def base(self) -> float:
        """The log-odds of any new customer."""
        if not self._base:
            of_model = self.mbg.log_odds_no_purchase(0, 0.0, 0.0, self.horizon_weeks)
            self._base.append(self.card.intercept + self.card.model * of_model)
        return self._base[0]

    def rank_of(self, level: str) -> int:
        """0 for the base level and for one that this policy does not know, 1 for the lowest, and so on."""
        return self._ranks.get(level, 0)

    def silence(self, facts: Facts) -> Silence:
        """How a customer's score grows with their age, until the next purchase."""
        card = self.card
        return Silence(
            self.mbg, repeat_purchases(facts), recency_weeks(facts), self.horizon_weeks, card.model, card.silence
        )

    # ------------------------------------------------------------ the score at an instant
    def log_odds(self, facts: Facts, at_ms: int) -> float:
        """The score of a customer with a purchase, at an instant not before it."""
        return self.silence(facts).log_odds(age_weeks(facts, at_ms)) + self._offset(facts, at_ms)

    def score(self, facts: Facts, at_ms: int) -> Score:
        """The score with its terms, rounded to DIGITS decimals so that they add up to it."""
        curve, card = self.silence(facts), self.card
        base = _rounded(self.base)
        of_model = base - card.intercept
        rhythm = _rounded(curve.log_odds(recency_weeks(facts)) - of_model)
        silence = _rounded(curve.log_odds(age_weeks(facts, at_ms)) - of_model - rhythm)
        complaints = _rounded(self._complaints_log_odds(facts, at_ms))
        satisfaction = _rounded(self._satisfaction_log_odds(facts, at_ms))
        if not self._has_traits:
            return Score(base, rhythm, silence, complaints, satisfaction, 0.0, 0.0, 0.0)
        frequency, spend, basket_trend = self._traits(facts)
        return Score(
            base,
            rhythm,
            silence,
            complaints,
            satisfaction,
            _rounded(frequency),
            _rounded(spend),
            _rounded(basket_trend),
        )

    def complaints(self, facts: Facts, at_ms: int) -> list[Complaint]:
        """The complaints that count at an instant, oldest first, each with what it adds to the score."""
        if not facts.complaints:
            return []
        rule = self.complaint_risk
        steps: dict[str, list[tuple[int, int, int, str]]] = {}
        for step in facts.complaints:
            if step.at_ms + rule.forget_after_ms > at_ms:
                steps.setdefault(step.complaint_id, []).append((step.at_ms, step.status, step.severity, step.category))
        protection = 1.0 / (1.0 + rule.protection * math.log1p(repeat_purchases(facts)))
        found: list[Complaint] = []
        # Steps are kept in order of time, so the first of a complaint is its opening and the last its present.
        for complaint_id, of_one in sorted(steps.items(), key=lambda item: (item[1][0][0], item[0])):
            opened_at_ms, (changed_at_ms, status, _, _) = of_one[0][0], of_one[-1]
            severity = max(step[2] for step in of_one)
            category = next((step[3] for step in reversed(of_one) if step[3]), "")
            repeated = bool(found) and opened_at_ms - found[-1].opened_at_ms <= rule.repeat_within_ms
            age_steps = (at_ms - changed_at_ms) // rule.step_ms
            faded: float = 2.0 ** (-(age_steps * rule.step_ms) / rule.half_life_ms)
            factor = rule.repeat_factor if repeated else 1.0
            log_odds = rule.severity[severity] * rule.status[status] * factor * faded * protection
            found.append(
                Complaint(complaint_id, category, severity, status, opened_at_ms, changed_at_ms, repeated, log_odds)
            )
        return found

    def complaints_open_until_ms(self, facts: Facts, at_ms: int) -> int:
        """When the last of the complaints that are open at an instant is forgotten, unless one is resolved; -1 if none
        is open.
        """
        last_steps = [one.changed_at_ms for one in self.complaints(facts, at_ms) if one.status != RESOLVED]
        return max(last_steps) + self.complaint_risk.forget_after_ms if last_steps else -1

    def _offset(self, facts: Facts, at_ms: int) -> float:
        """The terms that are constant between two steps."""
        passing = self._complaints_log_odds(facts, at_ms) + self._satisfaction_log_odds(facts, at_ms)
        return passing + self._of_traits(facts) if self._has_traits else passing

    def _of_traits(self, facts: Facts) -> float:
        """The terms that are constant until the next purchase or refund, including the intercept."""
        frequency, spend, basket_trend = self._traits(facts)
        return self.card.intercept + frequency + spend + basket_trend

    def _traits(self, facts: Facts) -> tuple[float, float, float]:
        """The terms of frequency, spend and basket trend."""
        card = self.card
        return (
            card.frequency * math.log(1.0 + repeat_purchases(facts)),
            card.spend * math.log(1.0 + mean_spend_minor(facts) / card.typical_minor),
            card.basket_trend * self._basket_trend(facts),
        )

    def _basket_trend(self, facts: Facts) -> float:
        """The log of the last day's spend relative to the mean; 0 if it is not known."""
        if not facts.last_day_minor:
            return 0.0
        typical = self.card.typical_minor
        return math.log((typical + facts.last_day_minor) / (typical + mean_spend_minor(facts)))

    def _complaints_log_odds(self, facts: Facts, at_ms: int) -> float:
        return sum(one.log_odds for one in self.complaints(facts, at_ms)) if facts.complaints else 0.0

    def _satisfaction_log_odds(self, facts: Facts, at_ms: int) -> float:
        answer = facts.satisfaction
        if answer is None or at_ms >= answer.at_ms + self.satisfaction_valid_for_ms:
            return 0.0
        return (self.satisfaction_neutral - answer.score) * self.satisfaction_per_point

    # ------------------------------------------------------------ levels and their instants
    def next_rank(self, rank: int, log_odds: float) -> int:
        """The rank that follows from a score: up past every threshold that it reaches, else down past every one that it
        is below.
        """
        reached = rank
        while reached < len(self.levels) and log_odds >= self.levels[reached].raise_at:
            reached += 1
        if reached == rank:
            while reached and log_odds < self.levels[reached - 1].ease_below:
                reached -= 1
        return reached

    def next_change_ms(self, facts: Facts, rank: int, after_ms: int) -> int:
        """The first instant after `after_ms` at which time alone changes the level `rank`; NEVER_MS if none.

        The customer is as `next_rank` left them at `after_ms`.
        """
        end_ms = facts.last_purchase_ms + LONGEST_SILENCE_MS
        raise_at = self.levels[rank].raise_at if rank < len(self.levels) else math.inf
        silence = self.silence(facts)
        from_ms = after_ms
        for step_ms in self._steps(facts, after_ms, end_ms):
            offset = self._offset(facts, from_ms)
            if (
                from_ms > after_ms
                and self.next_rank(rank, silence.log_odds(age_weeks(facts, from_ms)) + offset) != rank
            ):
                return from_ms
            # From here to the next step silence alone works, and only upwards.
            if silence.log_odds(age_weeks(facts, step_ms - 1)) + offset >= raise_at:
                return max(_reaches_ms(silence, facts, offset, raise_at, end_ms), after_ms + 1)
            from_ms = step_ms
        return NEVER_MS

    def unchanged_until_ms(self, facts: Facts, rank: int, now_ms: int) -> int:
        """Time alone does not change the level `rank` before then: a bound that is cheap to compute and never later
        than `next_change_ms`. It is `now_ms` or earlier if nothing is certain, and NEVER_MS if time alone never changes
        the level.
        """
        complaints, answer = facts.complaints, facts.satisfaction
        if rank and (complaints or answer is not None):
            return now_ms  # the level may also ease, when a term fades or expires
        if rank == len(self.levels):
            return NEVER_MS
        offset = 0.0
        if complaints:
            # They only fade; but once the oldest step is dropped, another complaint may count as repeated.
            offset = self._complaints_log_odds(facts, now_ms)
            if len(complaints) > 1:
                offset *= self.complaint_risk.repeat_factor
        if self._has_traits:
            offset += self._of_traits(facts)
        if answer is not None:
            offset += max(0.0, self._satisfaction_log_odds(facts, now_ms))
        repeats = repeat_purchases(facts)
        t_x_ms = facts.last_purchase_ms - facts.first_purchase_ms if repeats > 0 else 0
        threshold = self.levels[rank].raise_at - offset
        weeks = self._least_silence.weeks(repeats, t_x_ms, units.WEEK_MS, threshold)
        if weeks == math.inf:
            return NEVER_MS
        return facts.first_purchase_ms + t_x_ms + int(weeks * units.WEEK_MS)

    def _steps(self, facts: Facts, after_ms: int, end_ms: int) -> Iterator[int]:
        """The instants after `after_ms` at which a complaint fades by a step or something is forgotten, and last
        `end_ms`.
        """
        rule = self.complaint_risk
        steps: set[int] = set()
        for one in self.complaints(facts, after_ms) if facts.complaints else ():
            first = (after_ms - one.changed_at_ms) // rule.step_ms + 1
            last = rule.forget_after_ms // rule.step_ms
            steps.update(one.changed_at_ms + k * rule.step_ms for k in range(first, last + 1))
        steps.update(step.at_ms + rule.forget_after_ms for step in facts.complaints)
        if facts.satisfaction is not None:
            steps.add(facts.satisfaction.at_ms + self.satisfaction_valid_for_ms)
        yield from sorted(step for step in steps if after_ms < step < end_ms)
        if after_ms < end_ms:
            yield end_ms

    def p_alive(self, facts: Facts, at_ms: int) -> float:
        """The probability that the customer has not left."""
        return self.mbg.p_alive(repeat_purchases(facts), recency_weeks(facts), age_weeks(facts, at_ms))


def probability_of(log_odds: float) -> float:
    """The probability that log-odds stand for, to six decimals.

    >>> probability_of(0.0), probability_of(1.386294361)
    (0.5, 0.8)
    """
    return math.floor(PROBABILITY_SCALE / (1.0 + math.exp(-log_odds)) + 0.5) / PROBABILITY_SCALE


def _rounded(log_odds: float) -> float:
    """Rounded to DIGITS decimals, never -0.0; by scaling, since `round` is slower: it goes through a decimal string."""
    if abs(log_odds) < LARGEST_SCALED:
        return math.floor(log_odds * SCALE + 0.5) / SCALE
    return round(log_odds, DIGITS)


def repeat_purchases(facts: Facts) -> int:
    """x: distinct days with a purchase, less the first."""
    return max(facts.purchase_days - 1, 0)


def recency_weeks(facts: Facts) -> float:
    """t_x: age at the last purchase, 0 before the first repeat purchase."""
    return (facts.last_purchase_ms - facts.first_purchase_ms) / units.WEEK_MS if facts.purchase_days > 1 else 0.0


def mean_spend_minor(facts: Facts) -> float:
    """Mean net spend of a day with a purchase; 0 if refunds exceed it."""
    return facts.spend_minor / facts.purchase_days if facts.spend_minor > 0 and facts.purchase_days else 0.0


def age_weeks(facts: Facts, at_ms: int) -> float:
    """T: time since the first purchase."""
    return (at_ms - facts.first_purchase_ms) / units.WEEK_MS


def _reaches_ms(silence: Silence, facts: Facts, offset: float, threshold: float, end_ms: int) -> int:
    """The first instant from the last purchase on at which silence lifts the score, with this offset, to `threshold`.

    It depends on the facts alone, not on the instant of the call: the search starts at the last purchase and ends with
    whole milliseconds around the root, so the same crossing is always found.
    """
    first_ms, last_ms = facts.first_purchase_ms, facts.last_purchase_ms

    def reached(at_ms: int) -> bool:
        return silence.log_odds((at_ms - first_ms) / units.WEEK_MS) + offset >= threshold

    if reached(last_ms):
        return last_ms
    age = silence.reaches(threshold - offset, age_weeks(facts, last_ms), age_weeks(facts, end_ms))
    guess_ms = min(max(first_ms + round(age * units.WEEK_MS), last_ms + 1), end_ms - 1)
    low_ms, high_ms = _bracket(reached, guess_ms, last_ms, end_ms)
    while high_ms - low_ms > 1:
        middle_ms = (low_ms + high_ms) // 2
        low_ms, high_ms = (low_ms, middle_ms) if reached(middle_ms) else (middle_ms, high_ms)
    return high_ms


def _bracket(reached: Callable[[int], bool], guess_ms: int, least_ms: int, most_ms: int) -> tuple[int, int]:
    """An instant before and one after the crossing, found by steps from the guess that double in length."""
    stride = 1
    if reached(guess_ms):
        high_ms, low_ms = guess_ms, guess_ms - 1
        while low_ms > least_ms and reached(low_ms):
            high_ms, low_ms, stride = low_ms, max(low_ms - stride, least_ms), stride * 2
        return low_ms, high_ms
    low_ms, high_ms = guess_ms, guess_ms + 1
    while high_ms < most_ms and not reached(high_ms):
        low_ms, high_ms, stride = high_ms, min(high_ms + stride, most_ms), stride * 2
    return low_ms, high_ms
