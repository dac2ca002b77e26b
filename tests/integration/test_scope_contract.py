"""What a filter lets through and what a tenant sees, on Milvus Lite and on the real Milvus 2.3.5 server alike."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from blocks.milvus_store import MilvusStore
from blocks.settings import Settings
from tasks.documents.chunk import hash_of
from tasks.errors import MisuseError
from tasks.milvus.rows import Columns, tenant_of, to_rows
from tasks.milvus.store import Store
from tasks.models import Chunk, ChunkedBatch, CutDocument, EmbeddedBatch, ObjectRef
from tasks.retrieval.retrieve import find
from tasks.retrieval.scope import Scope

DIMENSION = 8
DAY = 86_400_000
TENANTS = ["acme", "acme2", "zeta", 'a" or tenant != "', "back\\slash", "per%cent", "under_score", "日本"]
EXTRA_KEYS = ["nobody.md", "acme"]
TEAMS = ["infra", 'in"fra', "web", None]


@dataclass(frozen=True)
class Row:
    """What is known of a chunk that was written."""

    key: str
    heading: str
    page: int
    last_modified: int
    team: str | None


def rows() -> list[Row]:
    keys = [f"{tenant}/{name}" for tenant in TENANTS for name in ("a.md", "sub/b.md", "100%_x.md")] + EXTRA_KEYS
    return [Row(key, f"Head › {n % 3}", n % 4, 1_767_225_600_000 + n * DAY, TEAMS[n % 4]) for n, key in enumerate(keys)]


def write(store: Store, collection: str, tenants: bool) -> None:
    for n, row in enumerate(rows()):
        chunk = Chunk(hash_of(row.key), row.key, 0, f"text {n}", row.heading, row.page or None, f"text {n}", str(n))
        ref = ObjectRef(row.key, "e", 1, row.last_modified)
        metadata = {"team": row.team} if row.team else {}
        batch = EmbeddedBatch(ChunkedBatch((CutDocument(ref, (chunk,), metadata),)), vector()[None, :], 1, 0)
        store.upsert(collection, to_rows(batch, 1, "run", Columns(store.capabilities.bm25, tenants)))


def vector() -> np.ndarray:
    found: np.ndarray = np.ones(DIMENSION, np.float32) / np.sqrt(np.float32(DIMENSION))
    return found


@pytest.fixture(scope="module")
def opened() -> Iterator[dict[tuple[str, bool], tuple[Store, str]]]:
    """A written collection a server, with tenants and without: making one takes seconds on the real server."""
    made: dict[tuple[str, bool], tuple[Store, str]] = {}
    yield made
    for store, collection in made.values():
        store.client.drop_collection(collection)
        store.client.close()


@pytest.fixture
def search(opened: dict[tuple[str, bool], tuple[Store, str]], milvus_url: str) -> Callable[..., set[str]]:
    """Return the keys that a search in a scope finds, in each mode that the server has."""

    def run(scope: Scope, tenants: bool = False) -> set[str]:
        if (milvus_url, tenants) not in opened:
            store = Store(MilvusStore(uri=milvus_url), f"t{uuid.uuid4().hex[:10]}")
            collection = f"{store.alias}_g0001"
            store.create(collection, DIMENSION, Settings(tenants=tenants), {})
            write(store, collection, tenants)
            assert store.count(collection) == len(rows())
            opened[milvus_url, tenants] = (store, collection)
        store, collection = opened[milvus_url, tenants]
        settings = Settings(top_k=100, tenants=tenants)
        where = scope.condition(tenants)
        found: list[set[str]] = []
        for update in ways(store.capabilities.bm25):
            hits = find(store, collection, "text", vector(), settings.model_copy(update=update), where).hits
            found.append({hit.key for hit in hits})
            near = store.neighbours(collection, hits[:20], 10, where)
            assert {hit.key for hit in near} <= found[-1], "what is read around a hit is in the scope as well"
        assert all(keys == found[0] for keys in found)
        return found[0]

    return run


def ways(bm25: bool) -> list[dict[str, Any]]:
    both = [{"mode": "hybrid", "fusion": fusion} for fusion in ("scores", "ranks")]
    return [{"mode": "dense"}, {"mode": "lexical"}, *both] if bm25 else [{"mode": "dense"}]


FILTERS: dict[str, Callable[[Row], bool]] = {
    "prefix=acme/": lambda row: row.key.startswith("acme/"),
    "prefix=acme": lambda row: row.key.startswith("acme"),
    "prefix=per%": lambda row: row.key.startswith("per%"),
    "prefix=under_": lambda row: row.key.startswith("under_"),
    "prefix=日本/sub": lambda row: row.key.startswith("日本/sub"),
    'prefix="back\\\\slash/"': lambda row: row.key.startswith("back\\slash/"),
    "key=nobody.md": lambda row: row.key == "nobody.md",
    "key in (nobody.md, zeta/a.md)": lambda row: row.key in {"nobody.md", "zeta/a.md"},
    "key^=zeta/ and key!=zeta/a.md": lambda row: row.key.startswith("zeta/") and row.key != "zeta/a.md",
    'heading="Head › 1"': lambda row: row.heading == "Head › 1",
    'heading^="Head › 2" or page=3': lambda row: row.heading == "Head › 2" or row.page == 3,
    "page<=1": lambda row: row.page <= 1,
    "page in (1, 2)": lambda row: row.page in {1, 2},
    "not page=1": lambda row: row.page != 1,
    "last_modified>=2026-01-11": lambda row: row.last_modified >= 1_767_225_600_000 + 10 * DAY,
    "last_modified<2026-01-11T00:00:00Z": lambda row: row.last_modified < 1_767_225_600_000 + 10 * DAY,
    "metadata.team=infra": lambda row: row.team == "infra",
    "metadata.team='in\"fra'": lambda row: row.team == 'in"fra',
    "metadata.team!=infra": lambda row: row.team not in {"infra", None},
    "not metadata.team=infra": lambda row: row.team != "infra",
    "metadata.team^=in": lambda row: bool(row.team and row.team.startswith("in")),
    "metadata.team in (web, infra)": lambda row: row.team in {"web", "infra"},
    "metadata.none=web": lambda _: False,
    "prefix=acme/ and (page=0 or page=1) or key=nobody.md": lambda row: (
        row.key == "nobody.md" or (row.key.startswith("acme/") and row.page in {0, 1})
    ),
}


@pytest.mark.parametrize("text", FILTERS)
def test_a_filter_lets_through_what_it_says(search: Callable[..., set[str]], text: str) -> None:
    assert search(Scope(text)) == {row.key for row in rows() if FILTERS[text](row)}


VALUES = [
    '" or 1 == 1 or key == "', "' or 1 == 1 or key == '", '") or (key != "', "x\\", 'x\\"', "%", "_", "*", "", "\n",
    "\x00", "acme/%", 'nobody.md" or tenant == "zeta', "{}", "[]", "${tenant}", "日本", "\u2028",
]  # fmt: skip
ATTEMPTS = [
    *(f"{field}{operator}{value!r}" for value in VALUES for field, operator in (
        ("prefix", "="), ("key", "!="), ("heading", "!="), ("metadata.team", "!="), ("not key", "="),
    )),
    *(f"key in ({value!r}, zeta/a.md, acme2/a.md)" for value in VALUES),
    *(f"metadata.{name}!=x" for name in ("tenant", "team", "__proto__", "a.b", "key")),
    "page>=0", "page<100000", "not page=77", "last_modified>=1970-01-01", "prefix=zeta/", "prefix=z", "key!=x",
    "prefix=zeta/ or page>=0", "page>=0 or prefix=zeta/ and page>=0", "not prefix=acme/", "not (page=1 and page=2)",
    "tenant=zeta", "tenant!=acme", "id!=x", "text!=x", "page=1) or (page=2", "1==1", "true", "or page=1",
    'tenant in ("zeta")', "exists metadata", "key like '%'", "page=1 || page>=0", "page=1; drop", "/* */ page>=0",
]  # fmt: skip


@pytest.mark.parametrize("tenant", ["acme", 'a" or tenant != "'])
def test_a_tenant_sees_its_own_objects_whatever_is_tried(search: Callable[..., set[str]], tenant: str) -> None:
    own = {row.key for row in rows() if tenant_of(row.key, "") == tenant}
    assert search(Scope(tenant=tenant), tenants=True) == own
    ways_tried = refused = 0
    for text in ATTEMPTS:
        ways_tried += 1
        try:
            found = search(Scope(text, tenant), tenants=True)
        except MisuseError:
            refused += 1
        else:
            assert found <= own, text
    assert ways_tried >= 100  # for each of the two tenants
    assert 10 < refused < ways_tried - 60


@pytest.mark.parametrize(
    "tenant",
    ["ACME", "acme ", " acme", "acm", "acme/", "%", "*", "", "acme\x00", 'acme" or tenant == "zeta', "nobody.md", "."],
)
def test_who_is_no_tenant_sees_nothing(search: Callable[..., set[str]], tenant: str) -> None:
    if tenant:
        assert search(Scope(tenant=tenant), tenants=True) == set()
    else:
        with pytest.raises(MisuseError, match="--tenant"):
            search(Scope(tenant=tenant), tenants=True)


def test_each_tenant_sees_all_of_its_own(search: Callable[..., set[str]]) -> None:
    seen = [search(Scope(tenant=tenant), tenants=True) for tenant in TENANTS]
    assert all(len(keys) == 3 for keys in seen)
    assert not any(one & other for one, other in itertools.combinations(seen, 2))
