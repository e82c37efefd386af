"""The checks of `tierstream doctor`: policy, Redis, clocks, a worker; those of the broker are in
streams/doctor/kafka.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx
from redis import Redis
from redis.exceptions import NoPermissionError, RedisError

import models
from models import units
from models.policy import Policy, PolicyError
from streams.doctor.finding import Finding, ok, problem, version_text, warning
from streams.doctor.kafka import check_broker
from streams.doctor.partitioners import check_partitioners
from streams.settings import Settings

PATIENCE_SECONDS: Final = 5.0
"""How long Redis and the worker may take to answer."""
OLDEST_REDIS: Final = (6, 0)
SKEW_SECONDS: Final = (2.0, 60.0)
"""The differences of clocks above which a warning is given, and above which a problem."""
FIT_IS_OLD_MS: Final = 365 * units.DAY_MS
FULL: Final = 0.9
"""The share of Redis's maxmemory above which a warning is given."""


def examine(settings: Settings, worker_url: str | None = None) -> Iterator[Finding]:
    """Examine everything, and yield each finding as soon as it is known. With `worker_url`, a worker is examined too."""
    policy, findings = _check_policy(settings)
    yield from findings
    yield from check_broker(settings)
    yield from check_partitioners(settings)
    yield from _check_redis(settings)
    if worker_url is not None:
        yield from _check_worker(worker_url, settings, policy)


# ---------------------------------------------------------------- policy
def _check_policy(settings: Settings) -> tuple[Policy | None, list[Finding]]:
    try:
        policy = models.load(settings.policy)
    except PolicyError as error:
        sentences = [
            f"{error.source}, line {one.line}: {f'{one.where}: ' if one.where else ''}{one.what}"
            for one in error.problems
        ]
        return None, [problem("policy", what, one.fix) for what, one in zip(sentences, error.problems, strict=True)]
    findings = [ok("policy", f"{policy.ref}: {policy.title}")]
    if not policy.parameters:
        findings.append(
            warning(
                "fit",
                f"the risk score of {policy.ref} was not fitted on your customers but on: {policy.risk.fitted_on}",
                'Fit it: tierstream policy fit LOG... --out params.toml, and [risk] parameters = "params.toml" in the policy',
            )
        )
    elif (age_ms := time.time_ns() // 1_000_000 - policy.fitted_until_ms) > FIT_IS_OLD_MS:
        days = age_ms // units.DAY_MS
        findings.append(
            warning("fit", f"the risk score was fitted on a log that ended {days} days ago", "Fit it again")
        )
    else:
        findings.append(ok("fit", f"the risk score was fitted on {policy.risk.fitted_on}"))
    return policy, findings


# ---------------------------------------------------------------- Redis
def _check_redis(settings: Settings) -> Iterator[Finding]:
    if settings.redis_url is None:
        yield warning(
            "redis",
            "no Redis is configured, so no serving view is kept",
            "Set TIERSTREAM_REDIS_URL if you look customers up",
        )
        return
    try:
        redis: Any = Redis.from_url(
            settings.redis_url, socket_timeout=PATIENCE_SECONDS, socket_connect_timeout=PATIENCE_SECONDS
        )
    except ValueError as error:
        yield problem("redis", str(error), "Write TIERSTREAM_REDIS_URL as redis://host:6379/0, rediss:// or unix://")
        return
    try:
        redis.ping()
        yield from _check_memory(redis)
        yield from _check_clock("Redis", *_difference_to(lambda: _seconds(redis.time())))
    except NoPermissionError as error:
        yield warning(
            "redis",
            f"this user may not query Redis: {error}",
            "Allow PING, INFO and TIME, so that the rest can be examined",
        )
    except (RedisError, OSError) as error:
        yield problem(
            "redis",
            f"Redis does not answer: {error}",
            "Start it, or correct TIERSTREAM_REDIS_URL; workers go on without it",
        )
    finally:
        redis.close()


def _check_memory(redis: Any) -> Iterator[Finding]:
    info = redis.info()
    version = tuple(int(part) for part in info["redis_version"].split(".")[:2])
    if version < OLDEST_REDIS:
        yield problem(
            "redis", f"Redis {info['redis_version']} is too old", f"Use {version_text(OLDEST_REDIS)} or newer"
        )
    else:
        yield ok("redis", f"Redis {info['redis_version']} answers")
    if info.get("role") != "master":
        yield problem(
            "redis",
            f"this Redis is a {info.get('role')}, which can't be written to",
            "Name the master in TIERSTREAM_REDIS_URL",
        )
    if info.get("redis_mode") == "cluster":
        yield problem(
            "redis",
            "this is a Redis Cluster, where one script can't update keys of several nodes",
            "Use a single Redis",
        )
    most_bytes, policy = int(info.get("maxmemory", 0)), info.get("maxmemory_policy", "noeviction")
    do = "Run CONFIG SET maxmemory-policy noeviction, and set it in redis.conf"
    if policy != "noeviction" and most_bytes:
        yield problem(
            "memory", f"maxmemory-policy is {policy}: when Redis is full, it drops customers from the view", do
        )
    elif policy != "noeviction":
        yield warning("memory", f"maxmemory-policy is {policy}; it has no effect only while maxmemory is not set", do)
    elif most_bytes and int(info["used_memory"]) > FULL * most_bytes:
        share = int(info["used_memory"]) / most_bytes
        yield warning(
            "memory",
            f"{share:.0%} of maxmemory is used; when Redis is full, the view can't be updated",
            "Raise maxmemory",
        )
    else:
        yield ok("memory", f"maxmemory-policy is noeviction, {info.get('used_memory_human', '?')} are used")


# ---------------------------------------------------------------- clocks
def now_seconds() -> float:
    """The clock of this machine, in seconds since 1970."""
    return time.time()


def _difference_to(ask: Callable[[], float]) -> tuple[float, float]:
    """By how many seconds another clock is ahead of this machine's, and the possible error in seconds: half the round
    trip.
    """
    before = now_seconds()
    theirs = ask()
    after = now_seconds()
    return theirs - (before + after) / 2, (after - before) / 2


def _seconds(answer: tuple[int, int]) -> float:
    """The answer of Redis to TIME, seconds and microseconds, in seconds."""
    return answer[0] + answer[1] / 1_000_000


def _check_clock(whose: str, ahead_seconds: float, error_seconds: float) -> Iterator[Finding]:
    off_seconds = max(0.0, abs(ahead_seconds) - error_seconds)
    what = (
        f"the clock of {whose} is {abs(ahead_seconds):.1f} s {'ahead of' if ahead_seconds > 0 else 'behind'} "
        "the clock of this machine"
    )
    do = "Synchronise both by NTP: changes by time alone come late with a clock that is behind, early with one that is ahead"
    if off_seconds > SKEW_SECONDS[1]:
        yield problem("clock", what, do)
    elif off_seconds > SKEW_SECONDS[0]:
        yield warning("clock", what, do)
    else:
        yield ok("clock", f"the clock of {whose} agrees with the clock of this machine")


# ---------------------------------------------------------------- worker
def _check_worker(url: str, settings: Settings, policy: Policy | None) -> Iterator[Finding]:
    try:
        with httpx.Client(base_url=url, timeout=PATIENCE_SECONDS, trust_env=False) as client:
            before = now_seconds()
            health = client.get("/healthz")
            after = now_seconds()
            stats = client.get("/stats").json()
            alive = health.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        yield problem(
            "worker",
            f"no worker answers at {url}: {error}",
            "Start it, or correct --worker (TIERSTREAM_WEB_HOST, _WEB_PORT)",
        )
        return
    if not alive.get("alive"):
        yield problem(
            "worker", f"the worker is stopping because of {alive.get('failure')}", "See its log; then start it again"
        )
    elif not stats.get("ready"):
        waits = "; ".join(stats.get("waits_for", [])[:3]) or "its partitions"
        yield warning(
            "worker", f"the worker has not caught up: {waits}", 'Wait; docs/monitoring.md, "TierstreamNotReady"'
        )
    else:
        yield ok(
            "worker",
            f"the worker is ready: {stats.get('customers', 0):,} customers, {stats.get('events', 0):,} events since its start",
        )
    if policy is not None and stats.get("policy") != policy.ref:
        yield problem(
            "worker",
            f"the worker runs {stats.get('policy')}, not {policy.ref}",
            "Start it with the same TIERSTREAM_POLICY",
        )
    if settings.redis_url is None and (date := health.headers.get("date")):
        # The header has whole seconds only: it may be up to a second behind.
        theirs = parsedate_to_datetime(date).timestamp() + 0.5
        yield from _check_clock("the worker", theirs - (before + after) / 2, (after - before) / 2 + 0.5)
