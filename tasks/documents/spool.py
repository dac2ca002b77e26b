"""Spool values: a few in memory, more in an unnamed temporary file."""

from __future__ import annotations

import itertools
import pickle
import shutil
import struct
import threading
from collections.abc import Collection, Iterable, Iterator
from tempfile import SpooledTemporaryFile
from typing import IO, TypeVar

T = TypeVar("T")
IN_MEMORY_BYTES = 1 << 20
"""The limit of one spool. A batch has two spools until its wave ends."""
VALUES_AT_ONCE = 128
_LENGTH = struct.Struct("<Q")


def write(values: Iterable[T], file: IO[bytes]) -> int:
    """Write values to a file in groups, and return how many there were."""
    count = 0
    values = iter(values)
    while some := list(itertools.islice(values, VALUES_AT_ONCE)):
        data = pickle.dumps(some, pickle.HIGHEST_PROTOCOL)
        file.write(_LENGTH.pack(len(data)))
        file.write(data)
        count += len(some)
    return count


class Spool:
    """A temporary store for the values of one batch. It is deleted when no :class:`Spooled` refers to it any more."""

    def __init__(self, in_memory_bytes: int = IN_MEMORY_BYTES) -> None:
        self._file = SpooledTemporaryFile(in_memory_bytes, prefix="lockstep-")  # noqa: SIM115 - closed with its last user
        self._lock = threading.Lock()
        self._end = 0

    def keep(self, values: Iterable[T]) -> Spooled[T]:
        """Store values, reading them as they come."""
        with self._lock:
            begin = self._seek_end()
            count = write(values, self._file)
            self._end = self._file.tell()
        return Spooled(self, begin, count)

    def take(self, file: IO[bytes], count: int) -> Spooled[T]:
        """Store the values that :func:`write` wrote to a file, without unpickling them."""
        with self._lock:
            begin = self._seek_end()
            shutil.copyfileobj(file, self._file, 1 << 20)
            self._end = self._file.tell()
        return Spooled(self, begin, count)

    def _seek_end(self) -> int:
        self._file.seek(self._end)
        return self._end

    def read(self, position: int) -> tuple[list[T], int]:
        """Return the group of values at a position, and the next position."""
        with self._lock:
            self._file.seek(position)
            (length,) = _LENGTH.unpack(self._file.read(_LENGTH.size))
            return pickle.loads(self._file.read(length)), position + _LENGTH.size + length


class Spooled(Collection[T]):
    """Spooled values, in order. Several readers may iterate at the same time, each in bounded memory."""

    __slots__ = ("_begin", "_count", "_spool")

    def __init__(self, spool: Spool, begin: int, count: int) -> None:
        self._spool, self._begin, self._count = spool, begin, count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[T]:
        position, left = self._begin, self._count
        while left:
            some: list[T]
            some, position = self._spool.read(position)
            left -= len(some)
            yield from some

    def __contains__(self, value: object) -> bool:
        return any(value == one for one in self)
