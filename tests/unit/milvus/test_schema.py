"""Names of generations, and what which Milvus can do."""

from __future__ import annotations

import pytest

from blocks.pymilvus_import import load_pymilvus
from blocks.settings import Settings
from tasks.documents.parse import DEEPEST_HEADING, LONGEST_HEADING
from tasks.limits import HEADING_BYTES
from tasks.milvus.capabilities import Capabilities, capabilities
from tasks.milvus.schema import NO_PAGE, fields, generation_number, indexes, physical

ROW = {
    "id", "embedding", "text", "text_hash", "key", "etag", "chunk_index", "heading", "page", "last_modified",
    "indexed_at", "flow_run_id", "metadata",
}  # fmt: skip


@pytest.mark.parametrize(
    ("version", "bm25", "inverted"),
    [
        ("2.3.5", False, False),
        ("v2.3.22", False, False),
        ("2.4.0", False, True),
        ("v2.4.15-hotfix", False, True),
        ("2.5.0-beta", True, True),
        ("v2.6.2", True, True),
        ("2.10.1", True, True),
        ("v3.0.0", True, True),
        ("milvus_lite-3.2.2", True, True),
        ("milvus_lite-2.5.1", False, False),
        ("milvus_lite", False, False),
        ("dev-build", False, False),
        ("", False, False),
    ],
)
def test_abilities_follow_from_the_version(version: str, bm25: bool, inverted: bool) -> None:
    found = capabilities(version)
    assert (found.version, found.bm25, found.inverted) == (version, bm25, inverted)
    assert found.lite is version.startswith("milvus_lite")


@pytest.mark.parametrize(
    ("number", "name"), [(1, "docs_g0001"), (7, "docs_g0007"), (9999, "docs_g9999"), (12345, "docs_g12345")]
)
def test_a_generation_is_named_after_its_alias(number: int, name: str) -> None:
    assert physical("docs", number) == name
    assert generation_number("docs", name) == number


@pytest.mark.parametrize(
    "name",
    [
        "docs",
        "docs_g1",
        "docs_g0001_old",
        "other_g0001",
        "mydocs_g0001",
        "docs_gABCD",
        "docs_g-001",
        "docs_g0001\n",
        "",
    ],
)
def test_other_collections_are_not_generations(name: str) -> None:
    assert generation_number("docs", name) is None


def test_an_alias_that_looks_like_a_generation_has_its_own() -> None:
    assert generation_number("docs_g0001", physical("docs_g0001", 2)) == 2
    assert generation_number("docs", physical("docs_g0001", 2)) is None


def test_the_deepest_heading_path_fits_into_its_field() -> None:
    sheet_name = 31
    deepest = " › ".join(["😀" * LONGEST_HEADING] * (DEEPEST_HEADING + 1) + ["😀" * sheet_name])
    assert len(deepest.encode()) <= HEADING_BYTES


@pytest.mark.parametrize("can", [Capabilities("2.3.5", False, False), Capabilities("2.6.0", True, True, (2, 6))])
def test_the_fields_of_a_row(can: Capabilities) -> None:
    client = load_pymilvus().MilvusClient
    schema = fields(client, 384, can).to_dict()
    names = {field["name"] for field in schema["fields"]}
    assert names == ROW | ({"words", "sparse"} if can.bm25 else set())
    by_name = {field["name"]: field for field in schema["fields"]}
    assert by_name["embedding"]["params"]["dim"] == 384
    assert by_name["id"]["is_primary"]
    assert not schema["enable_dynamic_field"]
    assert [function["name"] for function in schema.get("functions", [])] == (["bm25"] if can.bm25 else [])
    assert not can.bm25 or by_name["words"]["params"]["enable_analyzer"]
    of_tenants = fields(client, 384, can, tenants=True).to_dict()["fields"]
    together = [one["name"] for one in of_tenants if one.get("is_partition_key")]
    assert together == (["tenant"] if can.partition_key else [])


@pytest.mark.parametrize("can", [Capabilities("2.3.5", False, False), Capabilities("2.6.0", True, True, (2, 6))])
def test_what_is_filtered_has_an_index(can: Capabilities) -> None:
    found = {index.field_name: index.index_type for index in indexes(load_pymilvus().MilvusClient, can, Settings())}
    assert {"embedding", "key", "text_hash", "heading", "page", "last_modified"} <= found.keys()
    assert ("sparse" in found) is can.bm25
    assert ("INVERTED" in found.values()) is can.inverted


def test_no_page_is_not_a_page() -> None:
    assert NO_PAGE < 1
