"""Reads Protobuf records by the text of their schema. protoc compiles a schema at its first use, so any registry will
do.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.type import money_pb2

from streams.ingest.record_rows import HEAD_BYTES, Read

NAME: Final = "record.proto"
COMPILE_SECONDS: Final = 60


def protobuf_reader(text: str, references: Mapping[str, str]) -> Read:
    """A function that reads the messages of a schema. Raises ValueError if the schema is invalid."""
    pool = descriptor_pool.DescriptorPool()
    for file in compile_schema(text, references).file:
        pool.Add(file)
    described = pool.FindFileByName(NAME)
    messages: dict[bytes, Any] = {}
    tops = list(described.message_types_by_name.values())

    def read(value: bytes) -> Any:
        path, begins = _message_path(value)
        head = value[HEAD_BYTES:begins]
        message = messages.get(head)
        if message is None:
            descriptor = tops[path[0]]
            for number in path[1:]:
                descriptor = descriptor.nested_types[number]
            message = messages[head] = message_factory.GetMessageClass(descriptor)
        return json_format.MessageToDict(
            message.FromString(value[begins:]),
            preserving_proto_field_name=True,
            # Values that are 0, false or empty are not sent, but they are values.
            always_print_fields_with_no_presence=True,
        )

    return read


def _message_path(value: bytes) -> tuple[list[int], int]:
    """The message type within the schema, as numbers from the outermost inwards; and where the message begins."""
    count, place = _varint(value, HEAD_BYTES)
    if count == 0:
        return [0], place  # an abbreviation of [0], the most frequent path
    path = []
    for _ in range(count):
        number, place = _varint(value, place)
        path.append(number)
    return path, place


def _varint(value: bytes, place: int) -> tuple[int, int]:
    """A number in zigzag form, and where the next one begins."""
    number = shift = 0
    while True:
        byte = value[place]
        place += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), place
        shift += 7


def compile_schema(text: str, references: Mapping[str, str]) -> descriptor_pb2.FileDescriptorSet:
    """The compiled schema, as the file NAME, with the schemas that it refers to. Raises ValueError."""
    with TemporaryDirectory(prefix="tierstream-") as folder, as_file(files("grpc_tools") / "_proto") as own:
        root = Path(folder)
        for name, content in {**references, NAME: text}.items():
            path = (root / name).resolve()
            if not path.is_relative_to(root.resolve()):
                raise ValueError(f"it refers to {name!r}, which is no name of a file")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, "utf-8")
        # In a separate process, because protoc writes its messages to standard error.
        done = subprocess.run(  # noqa: S603
            [
                sys.executable, "-m", "grpc_tools.protoc", f"-I{root}", f"-I{own}", f"-I{_googleapis()}",
                "--include_imports", f"--descriptor_set_out={root / 'compiled'}", NAME,
            ],
            capture_output=True, text=True, timeout=COMPILE_SECONDS, check=False,
        )  # fmt: skip
        if done.returncode:
            raise ValueError(done.stderr.strip() or "protoc does not compile it")
        return descriptor_pb2.FileDescriptorSet.FromString((root / "compiled").read_bytes())


def _googleapis() -> Path:
    """The folder of google/type/money.proto and the other files of googleapis."""
    return Path(money_pb2.__file__).parent.parent.parent
