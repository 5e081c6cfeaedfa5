"""TensorBoard's event files, read back."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c


def events_in(path: Path) -> list[Any]:
    """All events of a file of records (length, its checksum, content, its checksum), whose checksums must hold."""
    content, found, at = path.read_bytes(), [], 0
    while at < len(content):
        (size,) = struct.unpack_from("<Q", content, at)
        head, body = content[at : at + 8], content[at + 12 : at + 12 + size]
        assert struct.unpack_from("<I", content, at + 8) == (masked_crc32c(head),)
        assert struct.unpack_from("<I", content, at + 12 + size) == (masked_crc32c(body),)
        found.append(Event.FromString(body))
        at += size + 16
    return found


def scalars_in(folder: Path) -> dict[str, dict[int, float]]:
    """Values by tag and step of a folder in which one file is; no step may stand in it twice."""
    (path,) = folder.iterdir()
    found: dict[str, dict[int, float]] = {}
    for event in events_in(path):
        for value in event.summary.value:
            of_tag = found.setdefault(value.tag, {})
            assert event.step not in of_tag, (value.tag, event.step)
            of_tag[event.step] = value.simple_value
    return found
