"""Index types and their parameters, checked by name before anything is built."""

from __future__ import annotations

from typing import Any

import pytest

from blocks.settings import Settings
from tasks.errors import MisuseError
from tasks.milvus.capabilities import capabilities
from tasks.milvus.index_types import build_params, check_index, search_params

LITE, OLD, NEW = capabilities("milvus_lite-3.2.2"), capabilities("v2.3.5"), capabilities("2.6.1")


@pytest.mark.parametrize("name", ["HNSW", "IVF_FLAT", "IVF_SQ8", "IVF_PQ", "FLAT", "AUTOINDEX"])
@pytest.mark.parametrize("server", [LITE, OLD, NEW])
def test_every_server_has_these(name: str, server: Any) -> None:
    check_index(Settings(index_type=name), server)


@pytest.mark.parametrize(
    ("name", "server"),
    [("HNSW_SQ", OLD), ("GPU_CAGRA", OLD), ("DISKANN", LITE), ("GPU_IVF_FLAT", LITE), ("HSNW", NEW), ("", NEW)],
)
def test_an_index_that_the_server_has_not_is_refused_with_those_that_it_has(name: str, server: Any) -> None:
    with pytest.raises(MisuseError) as caught:
        check_index(Settings(index_type=name), server)
    listed = str(caught.value).split("Supported: ")[1].split(".")[0].split(" (")[0].split(", ")
    assert name not in listed
    for one in listed:
        check_index(Settings(index_type=one), server)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"index_params": {"nlist": 16}}, "'nlist' is not a known parameter \\(M, efConstruction\\)"),
        ({"index_params": {"M": 1}}, "M=1 .* whole number from 2 to 2048"),
        ({"index_params": {"M": True}}, "M=True"),
        ({"search_params": {"nprobe": 3}}, "search_params of HNSW: 'nprobe'"),
        ({"index_type": "FLAT", "search_params": {"ef": 3}}, "it has none"),
        ({"index_type": "HNSW_SQ", "index_params": {"sq_type": "SQ4"}}, "one of SQ6, SQ8"),
        ({"index_type": "HNSW_SQ", "index_params": {"refine": 1}}, "true or false"),
    ],
)
def test_a_parameter_that_will_not_do_is_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(MisuseError, match=said):
        check_index(Settings(**settings), NEW)


def test_what_is_not_given_has_a_default_that_suits_the_depth() -> None:
    assert build_params(Settings(index_params={"M": 32})) == {"M": 32, "efConstruction": 200}
    assert search_params(Settings(), 10) == {"ef": 64}
    assert search_params(Settings(), 100) == {"ef": 400}
    assert search_params(Settings(search_params={"ef": 20}), 10) == {"ef": 20}
    assert search_params(Settings(search_params={"ef": 20}), 100) == {"ef": 100}
    assert search_params(Settings(index_type="IVF_FLAT"), 10) == {"nprobe": 32}
    assert search_params(Settings(index_type="FLAT"), 10) == {}
