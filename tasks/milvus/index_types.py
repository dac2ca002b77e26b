"""The vector indexes of Milvus: their parameters, the servers that have them, and their search parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tasks.errors import MisuseError

if TYPE_CHECKING:
    from blocks.settings import Settings
    from tasks.milvus.capabilities import Capabilities

Bounds = tuple[float, float] | tuple[str, ...] | type[bool]
CLUSTERS: dict[str, Bounds] = {"nlist": (1, 65536)}
PROBES: dict[str, Bounds] = {"nprobe": (1, 65536)}
GRAPH: dict[str, Bounds] = {"M": (2, 2048), "efConstruction": (1, 65536)}
WIDTH: dict[str, Bounds] = {"ef": (1, 65536)}


@dataclass(frozen=True, slots=True)
class Index:
    """One index type: its build and search parameters with their bounds, its build defaults, and the servers with it.

    ``since`` is the first Milvus with it. ``lite`` says whether Milvus Lite really builds it, for it accepts any name.
    """

    build: Mapping[str, Bounds] = field(default_factory=dict)
    search: Mapping[str, Bounds] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    since: tuple[int, int] = (2, 3)
    lite: bool = True


INDEXES: dict[str, Index] = {
    "AUTOINDEX": Index(),
    "FLAT": Index(),
    "HNSW": Index(GRAPH, WIDTH, {"M": 16, "efConstruction": 200}),
    "HNSW_SQ": Index(
        {**GRAPH, "sq_type": ("SQ6", "SQ8", "BF16", "FP16"), "refine": bool, "refine_type": ("BF16", "FP16", "FP32")},
        {**WIDTH, "refine_k": (1, 1000)},
        {"M": 16, "efConstruction": 200, "sq_type": "SQ8"},
        since=(2, 6),
    ),
    "IVF_FLAT": Index(CLUSTERS, PROBES, {"nlist": 128}),
    "IVF_SQ8": Index(CLUSTERS, PROBES, {"nlist": 128}),
    "IVF_PQ": Index({**CLUSTERS, "m": (1, 65536), "nbits": (1, 24)}, PROBES, {"nlist": 128, "m": 32, "nbits": 8}),
    "DISKANN": Index(search={"search_list": (1, 65535)}, lite=False),
    "GPU_IVF_FLAT": Index(CLUSTERS, PROBES, {"nlist": 128}, lite=False),
    "GPU_IVF_PQ": Index(
        {**CLUSTERS, "m": (1, 65536), "nbits": (1, 24)}, PROBES, {"nlist": 128, "m": 32, "nbits": 8}, lite=False
    ),
    "GPU_CAGRA": Index(
        {"intermediate_graph_degree": (1, 1024), "graph_degree": (1, 1024), "build_algo": ("IVF_PQ", "NN_DESCENT")},
        {"itopk_size": (1, 65536), "search_width": (1, 65536)},
        since=(2, 4),
        lite=False,
    ),
    "GPU_BRUTE_FORCE": Index(since=(2, 4), lite=False),
}


def those_of(can: Capabilities) -> list[str]:
    """Return the index types that a server has."""
    return [one for one, index in INDEXES.items() if (index.lite if can.lite else can.numbers >= index.since)]


def check_index(settings: Settings, can: Capabilities) -> None:
    """Raise ``MisuseError`` if the server lacks the index type, or a parameter is unknown or out of bounds."""
    name = settings.index_type
    here = those_of(can)
    if name not in here:
        raise MisuseError(
            f"Milvus {can.version} does not support index type {name}. Supported: {', '.join(here)}"
            f"{' (the GPU ones only in a GPU build)' * any('GPU' in one for one in here)}. Nothing was changed."
        )
    _check_params(f"index_params of {name}", settings.index_params, INDEXES[name].build)
    _check_params(f"search_params of {name}", settings.search_params, INDEXES[name].search)


def build_params(settings: Settings) -> dict[str, Any]:
    """Return the index's build parameters: its defaults, replaced by the settings."""
    return {**INDEXES.get(settings.index_type, Index()).defaults, **settings.index_params}


def search_params(settings: Settings, depth: int) -> dict[str, Any]:
    """Return the parameters of a search for ``depth`` hits: defaults for that depth, replaced by the settings."""
    known = INDEXES.get(settings.index_type, Index()).search
    wide = {"ef": max(64, 4 * depth), "nprobe": 32, "search_list": max(100, 2 * depth)}
    chosen = {**{name: wide[name] for name in known if name in wide}, **settings.search_params}
    for name in ("ef", "search_list"):
        if name in chosen:  # Milvus refuses a value below the number of hits
            chosen[name] = max(chosen[name], depth)
    return chosen


def _check_params(what: str, given: Mapping[str, Any], known: Mapping[str, Bounds]) -> None:
    for name, value in given.items():
        if name not in known:
            raise MisuseError(f"{what}: '{name}' is not a known parameter ({', '.join(known) or 'it has none'}).")
        bounds = known[name]
        if not _within(value, bounds):
            raise MisuseError(f"{what}: {name}={value!r} is invalid; it must be {_described(bounds)}.")


def _within(value: Any, bounds: Bounds) -> bool:
    if bounds is bool:
        return isinstance(value, bool)
    assert isinstance(bounds, tuple)
    low, high = bounds[0], bounds[-1]
    if isinstance(low, str):
        return value in bounds
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high  # type: ignore[operator]


def _described(bounds: Bounds) -> str:
    if bounds is bool:
        return "true or false"
    assert isinstance(bounds, tuple)
    if isinstance(bounds[0], str):
        return f"one of {', '.join(map(str, bounds))}"
    return f"a whole number from {bounds[0]} to {bounds[-1]}"
