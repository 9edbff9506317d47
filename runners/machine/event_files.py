"""Reads which values of a step TensorBoard has already, from the event files of a run."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path

_HEAD, _TAIL = struct.Struct("<QI"), 4  # of a record: its length and a checksum; a checksum


def tags_at(folder: Path, step: int) -> frozenset[str]:
    """Return the names of a step's values in a run's event files, as TensorBoard reads them.

    A process that went on from an earlier step, or that one, made void what was there of it. A
    record that was cut in half ends its file.
    """
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    tags: set[str] = set()
    for path in sorted(folder.glob("events.out.tfevents.*")):
        with contextlib.suppress(OSError, DecodeError):
            for record in _records(path.read_bytes()):
                event = Event.FromString(record)
                if event.session_log.status == SessionLog.START and event.step <= step:
                    tags.clear()
                elif event.step == step:
                    tags |= {value.tag for value in event.summary.value}
    return frozenset(tags)


def _records(content: bytes) -> Iterator[bytes]:
    start = 0
    while start + _HEAD.size <= len(content):
        length, _ = _HEAD.unpack_from(content, start)
        begin, end = start + _HEAD.size, start + _HEAD.size + length
        if end + _TAIL > len(content):
            return
        yield content[begin:end]
        start = end + _TAIL
