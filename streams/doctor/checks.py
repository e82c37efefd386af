"""What `tierstream doctor` looks at: policy, broker (streams/doctor/kafka.py), Redis, clocks, a worker. It changes nothing anywhere."""

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
from streams.doctor.finding import Finding, dotted, ok, problem, warning
from streams.doctor.kafka import look_at_broker
from streams.settings import Settings

PATIENCE_SECONDS: Final = 5.0
"""How long each of the others may take to answer."""
OLDEST_REDIS: Final = (6, 0)
SKEW_SECONDS: Final = (2.0, 60.0)
"""By how much clocks may differ before it is worth a warning, and before it is a problem."""
FIT_IS_OLD_MS: Final = 365 * units.DAY_MS
FULL: Final = 0.9
"""Of Redis's memory, from where on it is time to do something."""


def examine(settings: Settings, worker_url: str | None = None) -> Iterator[Finding]:
    """Everything there is to find out, thing by thing."""
    policy, findings = _look_at_policy(settings)
    yield from findings
    yield from look_at_broker(settings)
    yield from _look_at_redis(settings)
    if worker_url is not None:
        yield from _look_at_worker(worker_url, settings, policy)


# ---------------------------------------------------------------- policy
def _look_at_policy(settings: Settings) -> tuple[Policy | None, list[Finding]]:
    try:
        policy = models.load(settings.policy)
    except PolicyError as error:
        said = [
            f"{error.source}, line {one.line}: {f'{one.where}: ' if one.where else ''}{one.what}"
            for one in error.problems
        ]
        return None, [problem("policy", what, one.fix) for what, one in zip(said, error.problems, strict=True)]
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
        findings.append(ok("fit", f"fitted on {policy.risk.fitted_on}"))
    return policy, findings


# ---------------------------------------------------------------- Redis
def _look_at_redis(settings: Settings) -> Iterator[Finding]:
    if settings.redis_url is None:
        yield warning(
            "redis", "none is named, so no serving view is kept", "Set TIERSTREAM_REDIS_URL if you look customers up"
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
        yield from _look_at_memory(redis)
        yield from _look_at_clock("redis", *_timed(lambda: _seconds(redis.time())))
    except NoPermissionError as error:
        yield warning("redis", f"this user may not ask: {error}", "Allow PING, INFO and TIME to have the rest examined")
    except (RedisError, OSError) as error:
        yield problem(
            "redis",
            f"it does not answer: {error}",
            "Start it, or mend TIERSTREAM_REDIS_URL; the stream goes on without",
        )
    finally:
        redis.close()


def _look_at_memory(redis: Any) -> Iterator[Finding]:
    info = redis.info()
    version = tuple(int(part) for part in info["redis_version"].split(".")[:2])
    if version < OLDEST_REDIS:
        yield problem("redis", f"Redis {info['redis_version']} is too old", f"Use {dotted(OLDEST_REDIS)} or newer")
    else:
        yield ok("redis", f"Redis {info['redis_version']} answers")
    if info.get("role") != "master":
        yield problem(
            "redis", f"it is a {info.get('role')}: it can't be written to", "Name the master in TIERSTREAM_REDIS_URL"
        )
    if info.get("redis_mode") == "cluster":
        yield problem(
            "redis", "it is a Redis Cluster; one script can't update keys of several nodes", "Use a single Redis"
        )
    most_bytes, policy = int(info.get("maxmemory", 0)), info.get("maxmemory_policy", "noeviction")
    keep = "CONFIG SET maxmemory-policy noeviction, and in redis.conf"
    if policy != "noeviction" and most_bytes:
        yield problem(
            "memory", f"maxmemory-policy is {policy}: when Redis is full, customers vanish from the view", keep
        )
    elif policy != "noeviction":
        yield warning(
            "memory", f"maxmemory-policy is {policy}; there is no maxmemory yet that would bring it about", keep
        )
    elif most_bytes and int(info["used_memory"]) > FULL * most_bytes:
        share = int(info["used_memory"]) / most_bytes
        yield warning("memory", f"{share:.0%} of maxmemory is used; when it is full the view stops", "Raise maxmemory")
    else:
        yield ok("memory", f"noeviction, {info.get('used_memory_human', '?')} used")


# ---------------------------------------------------------------- clocks
def _timed(ask: Callable[[], float]) -> tuple[float, float]:
    """By how many seconds another clock is ahead of ours, and by how many that may be wrong: half the way there and back."""
    before = time.time()
    theirs = ask()
    after = time.time()
    return theirs - (before + after) / 2, (after - before) / 2


def _seconds(told: tuple[int, int]) -> float:
    return told[0] + told[1] / 1_000_000


def _look_at_clock(whose: str, ahead_seconds: float, error_seconds: float) -> Iterator[Finding]:
    off_seconds = max(0.0, abs(ahead_seconds) - error_seconds)
    told = f"that of {whose} is {abs(ahead_seconds):.1f} s {'ahead of' if ahead_seconds > 0 else 'behind'} ours"
    do = "Synchronise both by NTP: a clock that is behind makes what time changes come late, one ahead makes it come early"
    if off_seconds > SKEW_SECONDS[1]:
        yield problem("clock", told, do)
    elif off_seconds > SKEW_SECONDS[0]:
        yield warning("clock", told, do)
    else:
        yield ok("clock", f"that of {whose} agrees with ours")


# ---------------------------------------------------------------- worker
def _look_at_worker(url: str, settings: Settings, policy: Policy | None) -> Iterator[Finding]:
    try:
        with httpx.Client(base_url=url, timeout=PATIENCE_SECONDS, trust_env=False) as client:
            before = time.time()
            health = client.get("/healthz")
            after = time.time()
            stats = client.get("/stats").json()
            alive = health.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        yield problem(
            "worker", f"none answers at {url}: {error}", "Start it, or mend --worker (TIERSTREAM_WEB_HOST, _WEB_PORT)"
        )
        return
    if not alive.get("alive"):
        yield problem("worker", f"it stops because of {alive.get('failure')}", "See its log; then start it again")
    elif not stats.get("ready"):
        waits = "; ".join(stats.get("waits_for", [])[:3]) or "its partitions"
        yield warning("worker", f"it has not caught up: {waits}", 'Wait; docs/monitoring.md, "TierstreamNotReady"')
    else:
        yield ok(
            "worker",
            f"ready; {stats.get('customers', 0):,} customers, {stats.get('events', 0):,} events since its start",
        )
    if policy is not None and stats.get("policy") != policy.ref:
        yield problem(
            "worker", f"it runs {stats.get('policy')}, not {policy.ref}", "Start it with the same TIERSTREAM_POLICY"
        )
    if settings.redis_url is None and (date := health.headers.get("date")):
        # A header knows whole seconds only: it may be up to one behind.
        theirs = parsedate_to_datetime(date).timestamp() + 0.5
        yield from _look_at_clock("the worker", theirs - (before + after) / 2, (after - before) / 2 + 0.5)
