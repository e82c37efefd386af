"""The webhook: sends a record as signed JSON to a URL, with retries; and `verify`, with which its receiver checks the
signature.

A receiver in another language checks this: in the header `Tierstream-Signature: t=SECONDS,v1=HEX`, HEX has to be the
HMAC-SHA256, under the shared secret, of SECONDS, a full stop and the body's bytes as received; and SECONDS must not be
long ago, so that nobody can replay an overheard request later. Compare in constant time.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Literal, NamedTuple

import httpx
import tenacity

ID_HEADER: Final = "Tierstream-Id"
SIGNATURE_HEADER: Final = "Tierstream-Signature"
TOLERANCE_SECONDS: Final = 300
"""How far a signature's time may be from the receiver's."""
TRY_AGAIN: Final = (httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS)
SHORTEST_WAIT_SECONDS: Final = 0.2
LONGEST_WAIT_SECONDS: Final = 60.0
READ_BYTES: Final = 65_536
"""How much of an answer's body is read, so that the connection can be used again. The content is ignored."""

_SIGNATURE: Final = re.compile(r"t=(?P<at>\d{1,12})(?:,v1=[0-9a-f]{64})+", re.ASCII)


# ------------------------------------------------------------ signatures
class SignatureError(ValueError):
    """A body that can't be trusted; the message says why."""


def sign(secret: str, body: bytes, at_seconds: int) -> str:
    """The value of the signature's header for a body sent at a time (seconds since 1970).

    >>> sign("a secret", b"{}", 1_700_000_000)
    't=1700000000,v1=f4c7f7db2c2d22e9144ae6536d7918d29e7c70122e5704b842c2a7d02bee924f'
    """
    return f"t={at_seconds},v1={_digest(secret, str(at_seconds), body)}"


def verify(
    secret: str, signature: str, body: bytes, now_seconds: float, tolerance_seconds: float = TOLERANCE_SECONDS
) -> None:
    """Check a signature. Raises SignatureError unless the body was signed with the secret within `tolerance_seconds` of
    now.

    `body` has to be the bytes as received: JSON that was decoded and encoded again has other bytes.

    >>> verify("a secret", sign("a secret", b"{}", 1_700_000_000), b"{}", 1_700_000_007)
    """
    match = _SIGNATURE.fullmatch(signature)
    if match is None:
        raise SignatureError(f"the header {SIGNATURE_HEADER} is not t=SECONDS,v1=HEX")
    expected = _digest(secret, match["at"], body)
    # All are compared, each in constant time, so that the duration reveals nothing.
    fitting = [hmac.compare_digest(expected, one) for one in re.findall("v1=([0-9a-f]{64})", signature)]
    if not any(fitting):
        raise SignatureError(
            "the signature does not fit the body: it was changed on the way, or signed with another secret"
        )
    if abs(now_seconds - int(match["at"])) > tolerance_seconds:
        raise SignatureError(
            f"it was signed {now_seconds - int(match['at']):,.0f} seconds ago, but only {tolerance_seconds:,.0f} are tolerated: "
            "somebody may have replayed it, or one of the clocks is wrong"
        )


def _digest(secret: str, at: str, body: bytes) -> str:
    return hmac.digest(secret.encode(), at.encode() + b"." + body, "sha256").hex()


# ------------------------------------------------------------ sending
class GivenUp(NamedTuple):
    """Why a record was not delivered."""

    reason: Literal["refused", "patience"]
    """`refused`: the receiver's answer is final; `patience`: the time for retries ran out."""
    status: int | None
    """The HTTP status of the last answer; None if no answer came."""
    attempts: int
    detail: str


class _Failed(Exception):
    """An attempt failed; another may succeed."""

    def __init__(self, detail: str, status: int | None = None, after_seconds: float = 0.0) -> None:
        super().__init__(detail)
        self.status = status
        self.after_seconds = after_seconds


class _Refused(_Failed):
    """The receiver refused the record; no further attempt is made."""


class Webhook:
    """Sends records to one URL; `patience_seconds` is for all attempts of a record, `timeout_seconds` for each."""

    def __init__(self, url: str, secret: str, patience_seconds: float, timeout_seconds: float) -> None:
        self.name = redacted_url(url)
        self._url = url
        self._secret = secret
        self._patience_seconds = patience_seconds
        self._timeout_seconds = timeout_seconds
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
        # This timeout is for each piece of an answer; _post limits the attempt as a whole.
        self._client = httpx.AsyncClient(timeout=timeout_seconds, limits=limits, headers={"user-agent": "tierstream"})

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def deliver(self, record_id: str, body: bytes) -> GivenUp | None:
        """Send a record, with retries while patience lasts. Returns None once it is delivered, else why it was given
        up.
        """
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(
                lambda error: isinstance(error, _Failed) and not isinstance(error, _Refused)
            ),
            wait=_wait_seconds,
            stop=tenacity.stop_before_delay(self._patience_seconds),
            reraise=True,
        )
        try:
            await retrying(self._post, record_id, body)
        except _Failed as error:
            reason: Literal["refused", "patience"] = "refused" if isinstance(error, _Refused) else "patience"
            return GivenUp(reason, error.status, retrying.statistics["attempt_number"], str(error))
        return None

    async def _post(self, record_id: str, body: bytes) -> None:
        headers = {
            "content-type": "application/json",
            ID_HEADER: record_id,
            # Signed anew for each attempt: receivers trust only a fresh signature.
            SIGNATURE_HEADER: sign(self._secret, body, int(time.time())),
        }
        try:
            async with (
                asyncio.timeout(self._timeout_seconds),
                self._client.stream("POST", self._url, content=body, headers=headers) as answer,
            ):
                size = 0
                async for piece in answer.aiter_raw():
                    size += len(piece)
                    if size > READ_BYTES:
                        break
        except TimeoutError:
            raise _Failed(f"no answer within {self._timeout_seconds:g} s") from None
        except httpx.TransportError as error:
            raise _Failed(f"{type(error).__name__}: {error}") from None
        if answer.is_success:
            return
        detail = f"answered {answer.status_code} {answer.reason_phrase}".rstrip()
        if answer.is_server_error or answer.status_code in TRY_AGAIN:
            raise _Failed(
                detail, answer.status_code, retry_after_seconds(answer.headers.get("retry-after"), datetime.now(UTC))
            )
        raise _Refused(detail, answer.status_code)


def redacted_url(url: str) -> str:
    """A URL without its credentials, query and fragment, which may be secret.

    >>> redacted_url("https://mia:pass@example.com:8443/alerts?token=abc#x")
    'https://example.com:8443/alerts'
    """
    return str(httpx.URL(url).copy_with(userinfo=b"", query=None, fragment=None))


def host_of(url: str) -> str:
    """Scheme and host of a URL whose path is secret, as those of chats are.

    >>> host_of("https://hooks.example.com/services/T0/B0/abc")
    'https://hooks.example.com'
    """
    parsed = httpx.URL(url)
    return f"{parsed.scheme}://{parsed.host}"


def retry_after_seconds(written: str | None, now: datetime) -> float:
    """The pause that a header `Retry-After` asks for, given in seconds or as a time; 0 if it is missing or can't be
    read.

    >>> retry_after_seconds("120", datetime.now(UTC))
    120.0
    >>> retry_after_seconds("Thu, 01 Jan 2026 00:01:00 GMT", datetime(2026, 1, 1, tzinfo=UTC))
    60.0
    """
    if written is None:
        return 0.0
    if written.isascii() and written.isdigit():
        return float(written)
    try:
        until = parsedate_to_datetime(written)
    except ValueError:
        return 0.0
    return max(0.0, ((until if until.tzinfo else until.replace(tzinfo=UTC)) - now).total_seconds())


_backoff_seconds: Final = tenacity.wait_random_exponential(
    multiplier=SHORTEST_WAIT_SECONDS * 2, max=LONGEST_WAIT_SECONDS, min=SHORTEST_WAIT_SECONDS
)


def _wait_seconds(state: tenacity.RetryCallState) -> float:
    error = None if state.outcome is None else state.outcome.exception()
    return max(_backoff_seconds(state), error.after_seconds if isinstance(error, _Failed) else 0.0)
