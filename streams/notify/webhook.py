"""The webhook: a record as signed JSON to a URL, tried again for a while; and how its receiver checks the signature.

A receiver in Python checks with `verify`. In another language: of the header `Tierstream-Signature: t=SECONDS,v1=HEX`, HEX has to be
the HMAC-SHA256, under the shared secret, of SECONDS, a full stop and the body as it came; and SECONDS must not be long ago, so that
nobody can send later what they once overheard. Compare in constant time.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

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
"""Of an answer's body, so that the connection can be used again; nobody looks at it."""

_SIGNATURE: Final = re.compile(r"t=(?P<at>\d{1,12})(?:,v1=[0-9a-f]{64})+", re.ASCII)


# ------------------------------------------------------------ signatures
class SignatureError(ValueError):
    """A body that is not to be trusted; the message says why."""


def sign(secret: str, body: bytes, at_seconds: int) -> str:
    """The value of the signature's header for a body sent at a time (seconds since 1970).

    >>> sign("a secret", b"{}", 1_700_000_000)
    't=1700000000,v1=f4c7f7db2c2d22e9144ae6536d7918d29e7c70122e5704b842c2a7d02bee924f'
    """
    return f"t={at_seconds},v1={_digest(secret, str(at_seconds), body)}"


def verify(
    secret: str, signature: str, body: bytes, now_seconds: float, tolerance_seconds: float = TOLERANCE_SECONDS
) -> None:
    """Raises SignatureError unless the body was signed with the secret, and not longer ago, or ahead, than is tolerated.

    `body` is what came, byte for byte: JSON that was read and written again is other bytes.

    >>> verify("a secret", sign("a secret", b"{}", 1_700_000_000), b"{}", 1_700_000_007)
    """
    match = _SIGNATURE.fullmatch(signature)
    if match is None:
        raise SignatureError(f"the header {SIGNATURE_HEADER} is not t=SECONDS,v1=HEX")
    expected = _digest(secret, match["at"], body)
    # All are compared, each in constant time: how long it takes tells nothing.
    fitting = [hmac.compare_digest(expected, one) for one in re.findall("v1=([0-9a-f]{64})", signature)]
    if not any(fitting):
        raise SignatureError(
            "the signature does not fit the body: it was changed on the way, or signed with another secret"
        )
    if abs(now_seconds - int(match["at"])) > tolerance_seconds:
        raise SignatureError(
            f"it was signed {now_seconds - int(match['at']):,.0f} seconds ago, more than {tolerance_seconds:,.0f} are not "
            "tolerated: it may be a repetition by somebody else, or one of the clocks is wrong"
        )


def _digest(secret: str, at: str, body: bytes) -> str:
    return hmac.digest(secret.encode(), at.encode() + b"." + body, "sha256").hex()


# ------------------------------------------------------------ sending
class GivenUp(NamedTuple):
    """Why something was not delivered."""

    reason: str
    """`refused`: by an answer that trying again does not change; `patience`: the last of the tries failed too."""
    status: int | None
    """Of the last answer; None if there was none."""
    attempts: int
    detail: str


class _Failed(Exception):
    """A try that failed; another may not."""

    def __init__(self, detail: str, status: int | None = None, after_seconds: float = 0.0) -> None:
        super().__init__(detail)
        self.status = status
        self.after_seconds = after_seconds


class _Refused(_Failed):
    """An answer that says no."""


class Webhook:
    """Sends to one URL."""

    def __init__(self, url: str, secret: str, patience_seconds: float, timeout_seconds: float) -> None:
        self.name = shown_url(url)
        self._url = url
        self._secret = secret
        self._patience_seconds = patience_seconds
        self._timeout_seconds = timeout_seconds
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
        # For each piece of an answer; how long a try takes as a whole, _post sees to.
        self._client = httpx.AsyncClient(timeout=timeout_seconds, limits=limits, headers={"user-agent": "tierstream"})

    async def aclose(self) -> None:
        """Close what connections there are."""
        await self._client.aclose()

    async def deliver(self, record_id: str, body: bytes) -> GivenUp | None:
        """Send until somebody takes it, trying again for as long as patience lasts; None, or why it was given up."""
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
            reason = "refused" if isinstance(error, _Refused) else "patience"
            return GivenUp(reason, error.status, retrying.statistics["attempt_number"], str(error))
        return None

    async def _post(self, record_id: str, body: bytes) -> None:
        headers = {
            "content-type": "application/json",
            ID_HEADER: record_id,
            # Of each try anew: it may be the last of many, and only a fresh signature is trusted.
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
        said = f"answered {answer.status_code} {answer.reason_phrase}".rstrip()
        if answer.is_server_error or answer.status_code in TRY_AGAIN:
            raise _Failed(
                said, answer.status_code, retry_after_seconds(answer.headers.get("retry-after"), datetime.now(UTC))
            )
        raise _Refused(said, answer.status_code)


def shown_url(url: str) -> str:
    """A URL without what may be secret in it.

    >>> shown_url("https://mia:pass@example.com:8443/alerts?token=abc#x")
    'https://example.com:8443/alerts'
    """
    return str(httpx.URL(url).copy_with(userinfo=b"", query=None, fragment=None))


def shown_host(url: str) -> str:
    """Of a URL that is a secret as a whole, as those of chats are, where it leads.

    >>> shown_host("https://hooks.example.com/services/T0/B0/abc")
    'https://hooks.example.com'
    """
    parsed = httpx.URL(url)
    return f"{parsed.scheme}://{parsed.host}"


def retry_after_seconds(written: str | None, now: datetime) -> float:
    """How long a receiver asks to be left alone, in seconds or until a time; 0 if it does not say.

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


_backing_off: Final = tenacity.wait_random_exponential(
    multiplier=SHORTEST_WAIT_SECONDS * 2, max=LONGEST_WAIT_SECONDS, min=SHORTEST_WAIT_SECONDS
)


def _wait_seconds(state: tenacity.RetryCallState) -> float:
    error = None if state.outcome is None else state.outcome.exception()
    return max(_backing_off(state), error.after_seconds if isinstance(error, _Failed) else 0.0)
