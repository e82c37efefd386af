"""The webhook with a receiver that misbehaves, and its signatures after tampering."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from streams.notify.webhook import GivenUp, SignatureError, Webhook, sign, verify
from tests.integration.harness import free_port
from tests.receiver import Answer, Receiver, receiving

SECRET = "sixteen characters"
BODY = b'{"id": "one", "text": "\xc3\xa9 & more"}'


def deliver(
    url: str, *, patience_seconds: float = 10.0, timeout_seconds: float = 5.0, times: int = 1
) -> GivenUp | None:
    async def work() -> GivenUp | None:
        webhook = Webhook(url, SECRET, patience_seconds, timeout_seconds)
        try:
            found = [await webhook.deliver("one", BODY) for _ in range(times)]
        finally:
            await webhook.aclose()
        return found[-1]

    return asyncio.run(work())


def check_signatures(receiver: Receiver) -> None:
    for one in receiver.requests:
        verify(SECRET, one.headers["tierstream-signature"], one.body, time.time())


def test_a_receiver_gets_the_bytes_unchanged_with_id_and_signature() -> None:
    with receiving() as receiver:
        assert deliver(receiver.url) is None
    [request] = receiver.requests
    assert request.body == BODY
    assert request.headers["tierstream-id"] == "one"
    assert request.headers["content-type"] == "application/json"
    check_signatures(receiver)


@pytest.mark.parametrize("status", [500, 502, 503, 408, 429])
def test_a_failure_that_may_pass_is_tried_again(status: int) -> None:
    with receiving(Answer(status), Answer(status)) as receiver:
        assert deliver(receiver.url) is None
    assert [one.answered for one in receiver.requests] == [status, status, 200]
    assert {one.headers["tierstream-id"] for one in receiver.requests} == {"one"}
    check_signatures(receiver)


@pytest.mark.parametrize("status", [400, 401, 404, 410, 413, 301])
def test_a_refusal_is_not_tried_again(status: int) -> None:
    with receiving(otherwise=Answer(status, (("location", "/elsewhere"),))) as receiver:
        given_up = deliver(receiver.url)
    assert given_up is not None
    assert given_up[:3] == ("refused", status, 1)
    assert f"answered {status}" in given_up.detail
    assert len(receiver.requests) == 1


def test_the_last_answer_is_reported_when_patience_ends() -> None:
    with receiving(otherwise=Answer(503)) as receiver:
        given_up = deliver(receiver.url, patience_seconds=1.5)
    assert given_up == GivenUp("patience", 503, len(receiver.requests), "answered 503 Service Unavailable")
    assert given_up.attempts > 1


def test_a_slow_receiver_is_tried_again() -> None:
    with receiving(Answer(200, after_seconds=3600)) as receiver:
        assert deliver(receiver.url, timeout_seconds=2.0) is None
    assert len(receiver.requests) == 2


def test_a_receiver_that_trickles_its_answer_does_not_hold_up_the_sender() -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n")
        try:
            for number in range(1000):
                writer.write(b"x-%d: a\r\n" % number)
                await writer.drain()
                await asyncio.sleep(0.05)
        except OSError:
            return
        finally:
            writer.close()

    async def work() -> GivenUp | None:
        server = await asyncio.start_server(trickle, "127.0.0.1", 0)
        webhook = Webhook(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", SECRET, 0.0, 0.4)
        try:
            return await asyncio.wait_for(webhook.deliver("one", BODY), 10)
        finally:
            await webhook.aclose()
            server.close()

    assert asyncio.run(work()) == GivenUp("patience", None, 1, "no answer within 0.4 s")


def test_without_a_connection_attempts_go_on_until_patience_ends() -> None:
    given_up = deliver(f"http://127.0.0.1:{free_port()}/", patience_seconds=1.0)
    assert given_up is not None
    assert (given_up.reason, given_up.status) == ("patience", None)
    assert given_up.attempts > 1
    assert "ConnectError" in given_up.detail


@pytest.mark.parametrize("as_date", [False, True])
def test_a_receiver_that_asks_for_a_pause_gets_it(as_date: bool) -> None:
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=3)
    due = time.monotonic() + (until - datetime.now(UTC)).total_seconds()
    written = format_datetime(until, usegmt=True) if as_date else "2"
    with receiving(Answer(429, (("retry-after", written),))) as receiver:
        assert deliver(receiver.url) is None
    first, second = receiver.requests
    assert second.at >= (due if as_date else first.at + 2.0)


def test_a_requested_pause_longer_than_the_patience_ends_the_attempts() -> None:
    with receiving(otherwise=Answer(429, (("retry-after", "3600"),))) as receiver:
        assert deliver(receiver.url) == GivenUp("patience", 429, 1, "answered 429 Too Many Requests")


def test_a_success_counts_whatever_the_body_of_the_answer_is() -> None:
    odd = Answer(200, (("content-encoding", "gzip"),), body=b"this is no gzip")
    huge = Answer(200, body=b"x" * 1_000_000)
    with receiving(odd, huge) as receiver:
        assert deliver(receiver.url, times=3) is None
    assert [one.answered for one in receiver.requests] == [200, 200, 200]


# ------------------------------------------------------------ signatures
NOW = 1_700_000_000


@pytest.mark.parametrize(
    ("secret", "signature", "body", "now", "why"),
    [
        (SECRET, sign(SECRET, BODY, NOW), BODY + b" ", NOW, "does not fit"),
        (SECRET, sign(SECRET, BODY, NOW).replace(str(NOW), str(NOW + 200)), BODY, NOW + 200, "does not fit"),
        ("another secret of ours", sign(SECRET, BODY, NOW), BODY, NOW, "does not fit"),
        (SECRET, sign(SECRET, BODY, NOW), BODY, NOW + 301, "301 seconds ago"),
        (SECRET, sign(SECRET, BODY, NOW), BODY, NOW - 301, "-301 seconds ago"),
        (SECRET, "", BODY, NOW, "is not t=SECONDS"),
        (SECRET, f"t={NOW}", BODY, NOW, "is not t=SECONDS"),
        (SECRET, f"t={NOW},v1=é" + "0" * 63, BODY, NOW, "is not t=SECONDS"),
        (SECRET, f"t={'9' * 5000},v1=" + "0" * 64, BODY, NOW, "is not t=SECONDS"),
    ],
)  # fmt: skip
def test_a_wrong_signature_is_refused(secret: str, signature: str, body: bytes, now: int, why: str) -> None:
    with pytest.raises(SignatureError, match=why):
        verify(secret, signature, body, now)


def test_a_signature_passes_within_the_tolerance_and_with_either_of_two_secrets() -> None:
    verify(SECRET, sign(SECRET, BODY, NOW), BODY, NOW + 300)
    verify(SECRET, sign(SECRET, BODY, NOW), BODY, NOW + 3_000, tolerance_seconds=3_600)
    both = sign("the old secret of both", BODY, NOW) + "," + sign(SECRET, BODY, NOW).partition(",")[2]
    verify(SECRET, both, BODY, NOW)
