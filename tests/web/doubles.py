"""Doubles of the broker's client."""

from __future__ import annotations

from collections.abc import Callable, Sequence


class ErrorDouble:
    """A `KafkaError` with a text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def str(self) -> str:
        return self._text


class MessageDouble:
    """A `Message` that was written to a partition at an offset."""

    def __init__(self, partition: int, offset: int) -> None:
        self._partition, self._offset = partition, offset

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset


class ProducerDouble:
    """A `Producer` that acknowledges every record at once, or reports `error` for each; it keeps the headers of
    commands.
    """

    def __init__(self) -> None:
        self.error: ErrorDouble | None = None
        self.headers: list[list[tuple[str, bytes]]] = []

    def produce(
        self,
        topic: str,
        value: bytes,
        key: bytes,
        on_delivery: Callable[[ErrorDouble | None, MessageDouble], None],
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        if topic == "commands":
            self.headers.append(list(headers))
        on_delivery(self.error, MessageDouble(2, 41))

    def flush(self, _: float) -> int:
        return 0
