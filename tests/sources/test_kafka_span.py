"""The part of a broker's topics that a URL names, and the message for a URL that names none."""

from __future__ import annotations

import pytest

from streams.sources.kafka_span import WHOLE, parse_kafka_url
from streams.sources.logs import LogError
from streams.topics import INPUTS
from tests.builders import ms
from tests.test_cli import run


def test_a_url_without_parameters_is_the_whole_of_all_topics() -> None:
    assert parse_kafka_url("kafka://a:9092,b:9092/") == ("a:9092,b:9092", WHOLE)


def test_times_topics_and_offsets_are_read_from_a_url() -> None:
    broker, span = parse_kafka_url(
        "kafka://a:9092?from=2026-01-01T00:00:00+01:00&to=2026-02-01&topics=complaints,purchases"
        "&from-offset=5,1:7,purchases/1:9&to-offset=100"
    )
    assert broker == "a:9092"
    assert span.topics == ("purchases", "complaints"), "in the order in which simultaneous events are folded"
    assert (span.from_ms, span.to_ms) == (ms("2025-12-31T23:00:00Z"), ms("2026-02-01"))
    offsets = [span.from_offsets.of(*place) for place in (("purchases", 1), ("complaints", 1), ("purchases", 0))]
    assert offsets == [9, 7, 5]
    assert span.to_offsets.of("feedback", 3) == 100
    assert WHOLE.from_offsets.of("purchases", 0) is None


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("since=2026", "'since' is not among topics, from, to, from-offset, to-offset"),
        ("from=yesterday", "'yesterday' is not a time"),
        ("from=2026-02-01&to=2026-01-01", "`from` is not before `to`"),
        ("topics=gossip", f"topic 'gossip' is not among {', '.join(INPUTS)}"),
        ("from-offset=-5", "'-5' is no offset; write 100, 0:100"),
        ("from-offset=gossip/0:1", "is no offset"),
        ("from=2026-01-01&from=2026-01-02", "a parameter is given twice"),
        ("from", "bad query field"),
    ],
)
def test_a_url_with_an_unreadable_parameter_is_refused_with_what_to_write(query: str, says: str) -> None:
    with pytest.raises(LogError) as error:
        parse_kafka_url(f"kafka://a:9092?{query}")
    assert says in str(error.value)


def test_redis_as_a_log_or_as_a_seed_is_refused_with_what_to_give(tmp_path: str) -> None:
    for arguments, says in (
        (["redis://127.0.0.1:6379/0"], "Redis holds profiles, no events; read them from kafka://HOST:PORT"),
        (["log.jsonl", "--seed", "redis://:secret@127.0.0.1/0"], "in the changelog of a worker's table: give kafka://"),
        (["log.jsonl", "--seed", "kafka://a:9092?from=2026"], "leave out what comes after the ?"),
    ):
        result = run("replay", *arguments, "-p", "annual-spend", "-o", f"{tmp_path}/out")
        assert result.exit_code == 2, result.output
        assert says in result.output
        assert "secret" not in result.output
