"""The capabilities of a Milvus server, told from its version."""

from __future__ import annotations

import re
from dataclasses import dataclass

NUMBERS = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The capabilities of the connected server."""

    version: str
    bm25: bool
    inverted: bool
    numbers: tuple[int, ...] = (0,)
    lite: bool = False

    @property
    def partition_key(self) -> bool:
        """Whether the tenant can be the partition key. Up to 2.3, an upsert takes the partition from the wrong field.

        https://github.com/milvus-io/milvus/pull/30772
        """
        return self.lite or self.numbers >= (2, 4)


def capabilities(version: str) -> Capabilities:
    """Return the capabilities of a version: BM25 since Milvus 2.5, INVERTED indexes since 2.4.

    Milvus Lite has both since 3.0. It reports versions such as 'milvus_lite-3.2.2'.
    """
    lite = version.startswith("milvus_lite")
    numbers = tuple(int(n) for n in NUMBERS.findall(version)[:2]) or (0,)
    if lite:
        return Capabilities(version, numbers >= (3,), numbers >= (3,), numbers, lite)
    return Capabilities(version, numbers >= (2, 5), numbers >= (2, 4), numbers, lite)
