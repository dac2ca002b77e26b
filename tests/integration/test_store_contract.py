"""What the store promises, on Milvus Lite and on the real Milvus 2.3.5 server alike."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from blocks.milvus_store import MilvusStore
from blocks.settings import SearchMode, Settings
from tasks.errors import ContentError, GoneError, LockstepError, MisuseError, PartError, TransientError
from tasks.generations.fingerprint import built_with, fingerprint, fingerprint_of, properties_of
from tasks.milvus.expressions import literal
from tasks.milvus.index_types import INDEXES, build_params, check_index, those_of
from tasks.milvus.rows import Columns, to_rows
from tasks.milvus.schema import fields
from tasks.milvus.store import Store
from tasks.models import Chunk, ChunkedBatch, CutDocument, EmbeddedBatch, ObjectRef
from tests.support.servers import milvus_lite_server

DIMENSION = 8
BUILT = {"chunker": 1, "model": "a model", "chunk_tokens": None}
KEYS = ["a.md", 'quote".md', 'a" or key != ".md', "back\\slash", "new\nline", "ünï 日本 😀"]


@pytest.fixture(scope="module")
def stores() -> Iterator[dict[str, Store]]:
    """A store a server: making a collection takes seconds on the real one, so the tests share it."""
    opened: dict[str, Store] = {}
    yield opened
    for store in opened.values():
        store.client.drop_alias(store.alias)
        for name in store.client.list_collections():
            if name.startswith(f"{store.alias}_g"):
                store.client.drop_collection(name)
        store.client.close()


@pytest.fixture
def store(stores: dict[str, Store], milvus_url: str) -> Store:
    if milvus_url not in stores:
        stores[milvus_url] = Store(MilvusStore(uri=milvus_url), f"t{uuid.uuid4().hex[:10]}")
    return stores[milvus_url]


@pytest.fixture
def collection(store: Store) -> str:
    """The first generation, empty and live."""
    name = f"{store.alias}_g0001"
    store.create(name, DIMENSION, Settings(), properties_of(BUILT))
    store.point_alias(name)
    ids = [row["id"] for row in store.rows(name, ["id"])]
    if ids:
        store.client.delete(name, ids=ids)
    return name


def chunk_id(key: str, number: int) -> str:
    return hashlib.sha256(f"{key} {number}".encode()).hexdigest()[:32]


def vector(number: int) -> np.ndarray:
    found = np.random.default_rng(number).normal(size=DIMENSION).astype(np.float32)
    return found / np.linalg.norm(found)


def batch(key: str, numbers: list[int], etag: str = "e1") -> EmbeddedBatch:
    chunks = tuple(
        Chunk(chunk_id(key, n), key, i, text := f"text {n}", "Head › Line", n or None, text, f"hash-{n}")
        for i, n in enumerate(numbers)
    )
    document = CutDocument(ObjectRef(key, etag, 10, 1234), chunks, {"team": 'in"fra', "ü": "é"})
    return EmbeddedBatch(ChunkedBatch((document,)), np.array([vector(n) for n in numbers]), len(numbers), 0)


def write(store: Store, collection: str, *batches: EmbeddedBatch) -> None:
    for one in batches:
        store.upsert(collection, to_rows(one, 5678, "run-1", Columns(store.capabilities.bm25)))


def test_the_alias_leads_to_the_first_generation(store: Store, collection: str) -> None:
    assert store.live() == collection
    assert fingerprint_of(store, collection) == fingerprint(BUILT)
    assert built_with(store, collection) == BUILT
    second = f"{store.alias}_g0002"
    store.create(second, DIMENSION, Settings(), properties_of(BUILT))
    store.create(second, DIMENSION, Settings(), properties_of(BUILT))
    assert store.live() == collection
    store.point_alias(second)
    assert store.live() == second


def test_a_generation_left_half_made_is_finished(store: Store) -> None:
    name = f"{store.alias}_g0009"
    store.client.create_collection(name, schema=fields(store.client, DIMENSION, store.capabilities))
    store.create(name, DIMENSION, Settings(), properties_of(BUILT))
    assert "embedding" in store.client.list_indexes(name)
    assert store.count(name) == 0
    store.client.drop_collection(name)


def test_neighbours_are_of_the_same_version_of_the_object(store: Store, collection: str) -> None:
    write(store, collection, batch("a.md", [1, 2, 3, 4, 5]), batch(KEYS[2], [6, 7]))
    write(store, collection, batch("b.md", [8, 9], "old"), batch("b.md", [10], "new"))
    assert store.count(collection) == 10
    (hits,) = store.search(collection, [""], [vector(3)], Settings(mode="dense", top_k=10))
    third, odd, old = (next(hit for hit in hits if hit.text == f"text {n}") for n in (3, 7, 9))
    found = store.neighbours(collection, [third, odd, old], 1)
    assert sorted(hit.text for hit in found) == sorted(f"text {n}" for n in (2, 3, 4, 6, 7, 8, 9))
    assert {hit.chunk_id for hit in found if hit.key == "a.md"} == {chunk_id("a.md", n) for n in (2, 3, 4)}
    assert [hit.text for hit in store.neighbours(collection, [third], 2, "page <= 2")] == ["text 1", "text 2"]


def test_chunks_are_found_by_id_within_a_scope(store: Store, collection: str) -> None:
    write(store, collection, batch("a.md", [1, 2]), batch(KEYS[2], [3]))
    assert store.count(collection) == 3  # a strong read: from now on, all reads see the rows
    wanted = [chunk_id("a.md", 1), chunk_id(KEYS[2], 3), 'x" or id != "']
    assert {hit.key for hit in store.chunks(collection, wanted)} == {"a.md", KEYS[2]}
    (hit,) = store.chunks(collection, wanted, 'key == "a.md"')
    assert (hit.chunk_id, hit.text, hit.chunk_index, hit.page) == (wanted[0], "text 1", 0, 1)
    assert store.chunks(collection, wanted[:1], f"key == {literal(KEYS[2])}") == []


def test_a_collection_with_the_alias_name_is_refused(store: Store) -> None:
    other = Store(store.block, f"{store.alias}_taken")
    other.client.create_collection(other.alias, dimension=4)
    with pytest.raises(PartError, match="COLLECTION_NAME"):
        other.check_alias_is_free()
    other.client.drop_collection(other.alias)
    other.check_alias_is_free()


def test_rows_come_back_as_they_were_written(store: Store, collection: str) -> None:
    write(store, collection, batch("a.md", [0, 7]))
    fields = ["id", "key", "text", "text_hash", "etag", "chunk_index", "heading", "page", "last_modified"]
    fields += ["indexed_at", "flow_run_id", "metadata"]
    found = sorted(store.rows(collection, fields), key=lambda row: row["chunk_index"])
    assert found[1] == {
        "id": chunk_id("a.md", 7), "key": "a.md", "text": "text 7", "text_hash": "hash-7", "etag": "e1",
        "chunk_index": 1, "heading": "Head › Line", "page": 7, "last_modified": 1234, "indexed_at": 5678,
        "flow_run_id": "run-1",
        "metadata": {"team": 'in"fra', "ü": "é"},
    }  # fmt: skip
    assert found[0]["page"] == 0


def test_writing_again_replaces(store: Store, collection: str) -> None:
    write(store, collection, batch("a.md", [1, 2]), batch("a.md", [1, 2], etag="e2"))
    assert store.count(collection) == 2
    assert {row["etag"] for row in store.rows(collection, ["etag"])} == {"e2"}


def test_pruning_takes_only_what_is_stale_of_these_keys(store: Store, collection: str) -> None:
    write(store, collection, *(batch(key, [1, 2, 3]) for key in KEYS))
    kept = {row["id"] for row in store.rows(collection, ["id", "key"]) if row["key"] == KEYS[1]}
    one = min(kept)
    assert store.prune(collection, [KEYS[1]], keep={one}) == 2
    assert store.prune(collection, [KEYS[1]], keep={one}) == 0
    assert store.prune(collection, [KEYS[2]], keep=set()) == 3
    assert store.count(collection) == 3 * (len(KEYS) - 2) + 1
    assert store.prune(collection, KEYS, keep=set()) == 3 * (len(KEYS) - 2) + 1
    assert store.count(collection) == 0


def test_what_was_just_written_is_pruned(store: Store, collection: str) -> None:
    for number in range(1, 6):
        write(store, collection, batch("a.md", [number]))
        assert len(store.ids_of(collection, ["a.md"])) == (1 if number == 1 else 2)
        assert store.prune(collection, ["a.md"], keep={chunk_id("a.md", number)}) == (number > 1)


def test_much_is_written_and_pruned_in_pieces_and_all_of_it(
    store: Store, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.milvus.portions.ROWS_AT_ONCE", 2)
    for bound in ("KEYS_AT_ONCE", "READ_AT_ONCE", "HASHES_AT_ONCE"):
        monkeypatch.setattr(f"tasks.milvus.store.{bound}", 2)
    write(store, collection, *(batch(key, [1, 2, 3, 4, 5]) for key in KEYS))
    assert store.count(collection) == 5 * len(KEYS)
    assert store.known_vectors(collection, [f"hash-{n}" for n in range(1, 7)]).keys() == {
        f"hash-{n}" for n in range(1, 6)
    }
    assert store.prune(collection, KEYS, keep={chunk_id(key, 5) for key in KEYS}) == 4 * len(KEYS)
    assert {row["id"] for row in store.rows(collection, ["id"])} == {chunk_id(key, 5) for key in KEYS}


def test_long_rows_are_written_in_as_many_calls_as_they_need(store: Store, collection: str) -> None:
    """More than the 64 MB that gRPC takes of one call, in fewer rows than go into one."""
    (row,) = to_rows(batch("a.md", [1]), 1, "run", Columns(store.capabilities.bm25))
    rows = [
        {**row, "id": chunk_id("a.md", n), "text": "€" * 21_000, "metadata": {"m": "x" * 60_000}} for n in range(480)
    ]
    long = {"words": "w" * 60_000} if store.capabilities.bm25 else {}
    assert store.upsert(collection, [{**one, **long} for one in rows]) == 480
    assert store.count(collection) == 480
    assert store.prune(collection, ["a.md"], set()) == 480


@pytest.mark.parametrize("changed", [{"text": "x" * 65_536}, {"heading": "x" * 9_000}, {"heading": "a\ud800b"}])
def test_a_row_that_does_not_fit_is_told_from_other_trouble(
    store: Store, collection: str, changed: dict[str, str]
) -> None:
    rows = list(to_rows(batch("a.md", [1, 2]), 1, "run", Columns(store.capabilities.bm25)))
    with pytest.raises(ContentError):
        store.upsert(collection, [rows[0], {**rows[1], **changed}])
    del rows[1]["page"]
    with pytest.raises(PartError) as caught:
        store.upsert(collection, rows)
    assert type(caught.value) is PartError


def test_who_is_no_longer_the_writer_writes_and_deletes_nothing(store: Store, collection: str) -> None:
    """Each call is checked, not each batch: another may become the writer between two of them."""
    write(store, collection, batch("a.md", [1, 2]))

    def lost() -> None:
        raise LockstepError("no longer the writer")

    store.check_writer = lost
    try:
        with pytest.raises(LockstepError, match="no longer the writer"):
            write(store, collection, batch("a.md", [3]))
        with pytest.raises(LockstepError, match="no longer the writer"):
            store.prune(collection, ["a.md"], keep=set())
        with pytest.raises(LockstepError, match="no longer the writer"):
            store.delete(collection, [chunk_id("a.md", 1)])
    finally:
        store.check_writer = lambda: None
    assert sorted(row["id"] for row in store.rows(collection, ["id"])) == sorted(chunk_id("a.md", n) for n in (1, 2))


def test_vectors_of_known_texts_come_back(store: Store, collection: str) -> None:
    write(store, collection, batch("a.md", list(range(1, 40))), batch("b.md", [1, 2]))
    known = store.known_vectors(collection, [f"hash-{n}" for n in (1, 5, 39, 99)])
    assert known.keys() == {"hash-1", "hash-5", "hash-39"}
    np.testing.assert_allclose(known["hash-5"], vector(5), atol=1e-6)


def test_a_text_in_very_many_rows_hides_no_other(
    store: Store, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.milvus.store.READ_AT_ONCE", 5)
    write(store, collection, *(batch(f"copy-{n}", [1]) for n in range(12)), batch("z", [2]), batch("y", [3]))
    assert store.known_vectors(collection, ["hash-1", "hash-2", "hash-3"]).keys() == {"hash-1", "hash-2", "hash-3"}


def test_searching_finds_the_nearest_first(store: Store, collection: str) -> None:
    write(store, collection, batch("a.md", list(range(1, 30))))
    assert store.count(collection) == 29  # a strong read: what was written is there for every later search
    (hits,) = store.search(collection, ["text 9"], [vector(9)], Settings(top_k=5, mode="dense"))
    assert len(hits) == 5
    assert (hits[0].text, hits[0].page, hits[0].key, hits[0].heading) == ("text 9", 9, "a.md", "Head › Line")
    assert hits[0].score == pytest.approx(1.0, abs=1e-3)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_a_search_sees_the_write_that_it_asks_for_at_once(store: Store, collection: str) -> None:
    """Another process' search, which may be behind on a server with more than one part."""
    with Store(store.block, store.alias) as reader:
        for number in range(12):
            write(store, collection, batch(f"seen-{number}.md", [500 + number]))
            reader.sees = {collection: store.last_write(collection)}
            assert bool(store.last_write(collection)) is (not store.capabilities.bm25), "Milvus Lite gives no time"
            hits = reader.search(collection, ["x"], [vector(500 + number)], Settings(mode="dense", top_k=1))[0]
            assert hits[0].key == f"seen-{number}.md"
            store.prune(collection, [f"seen-{number}.md"], set())
            reader.sees = {collection: store.last_write(collection)}
            hits = reader.search(collection, ["x"], [vector(500 + number)], Settings(mode="dense", top_k=1))[0]
            assert not [hit for hit in hits if hit.key == f"seen-{number}.md"]


def test_words_are_searched_where_the_server_can(store: Store, collection: str) -> None:
    if not store.capabilities.bm25:
        assert "sparse" not in {field["name"] for field in store.client.describe_collection(collection)["fields"]}
        return
    write(store, collection, batch("a.md", list(range(1, 30))))
    modes: tuple[SearchMode, ...] = ("lexical", "hybrid")
    for mode in modes:
        (hits,) = store.search(collection, ["text 17"], [vector(17)], Settings(top_k=3, mode=mode))
        assert hits[0].score > 0
        assert hits[0].text == "text 17"


def test_questions_in_one_call_find_what_each_finds_alone(store: Store, collection: str) -> None:
    write(store, collection, batch("a.md", list(range(1, 30))))
    assert store.count(collection) == 29  # a strong read: what was written is there for every later search
    questions = ["text 3", "?!", "text 17", "17 text 9"]  # one has no word to search for
    vectors = [vector(number) for number in (3, 5, 17, 9)]
    modes: tuple[SearchMode, ...] = ("dense", "lexical", "hybrid") if store.capabilities.bm25 else ("dense",)
    for mode in modes:
        settings = Settings(top_k=4, mode=mode)
        pairs = zip(questions, vectors, strict=True)
        alone = [store.search(collection, [question], [one], settings)[0] for question, one in pairs]
        together = store.search(collection, questions, vectors, settings)
        for hits, others in zip(together, alone, strict=True):
            assert [hit.chunk_id for hit in hits] == [hit.chunk_id for hit in others]
            assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in others], abs=1e-5)
        assert bool(alone[1]) == (mode != "lexical")


def test_the_alias_is_followed_when_it_moves_and_when_it_goes(store: Store, collection: str) -> None:
    assert store.live() == store.resolve() == collection
    other = f"{store.alias}_g0002"
    store.create(other, DIMENSION, Settings(), properties_of(BUILT))
    store.client.alter_alias(other, store.alias)  # as another process does
    assert store.live() == other
    store.client.drop_alias(store.alias)
    assert store.live() is None
    with pytest.raises(PartError, match="lockstep sync"):
        store.resolve()
    store.client.create_alias(collection, store.alias)
    assert store.live() == collection
    store.drop(other)


def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(TransientError, match=r"127\.0\.0\.1:9 .*MILVUS_URI"):
        Store(MilvusStore(uri="http://127.0.0.1:9", timeout_seconds=2), "docs")


def test_an_open_store_survives_a_restart_of_the_server(tmp_path: Path) -> None:
    server = milvus_lite_server(tmp_path).start()
    try:
        store = Store(MilvusStore(uri=server.url, timeout_seconds=5), "docs")
        store.create("docs_g0001", DIMENSION, Settings(), properties_of(BUILT))
        store.point_alias("docs_g0001")
        write(store, "docs_g0001", batch("a.md", [1, 2]))
        server.stop()
        server.start()
        for _ in range(3):
            try:
                assert store.prune("docs_g0001", ["a.md"], keep={chunk_id("a.md", 1)}) == 1
                break
            except TransientError:
                continue
        else:
            pytest.fail("it never recovered")
        assert len(store.search("docs_g0001", ["text 1"], [vector(1)], Settings(top_k=5, mode="dense"))[0]) == 1
    finally:
        server.stop()


@pytest.mark.parametrize("index_type", INDEXES)
def test_each_index_that_the_server_has_is_built_and_searched(store: Store, index_type: str) -> None:
    params = {"m": 4} if "PQ" in index_type else {}
    settings = Settings(index_type=index_type, index_params=params, top_k=5, mode="dense")
    if index_type not in those_of(store.capabilities):
        with pytest.raises(MisuseError, match="HNSW, "):
            check_index(settings, store.capabilities)
        return
    if index_type.startswith("GPU"):
        return  # only a build for GPUs has them, which the version does not tell
    name = f"{store.alias}_g0099"
    try:
        store.create(name, DIMENSION, settings, properties_of(BUILT))
        write(store, name, batch("a.md", list(range(1, 300))))
        assert store.count(name) == 299
        assert store.search(name, [""], [vector(9)], settings)[0][0].text == "text 9"
        info = store.client.describe_index(name, "embedding")
        assert info["index_type"] == index_type
        told = {**info, **info.get("params", {})}  # Milvus Lite nests them
        built = build_params(settings)
        assert {one: str(told[one]) for one in built} == {one: str(value) for one, value in built.items()}
    finally:
        store.drop(name)


def test_a_dropped_collection_is_told_from_other_trouble(store: Store) -> None:
    name = f"{store.alias}_g0098"
    store.create(name, DIMENSION, Settings(), properties_of(BUILT))
    assert store.exists(name)
    store.drop(name)
    assert not store.exists(name)
    store.drop(name)
    with pytest.raises(GoneError, match="Ask again"):
        store.search(name, [""], [vector(1)], Settings(mode="dense"))


def test_the_live_generation_is_not_dropped(store: Store, collection: str) -> None:
    with pytest.raises(PartError, match="live"):
        store.drop(collection)
    assert store.exists(collection)


def test_vectors_are_read_by_id(store: Store, collection: str) -> None:
    write(store, collection, batch("a.md", [1, 2]))
    found = store.vectors_of(collection, [chunk_id("a.md", 1), "not there"])
    assert found.keys() == {chunk_id("a.md", 1)}
    assert float(found[chunk_id("a.md", 1)] @ vector(1)) == pytest.approx(1.0, abs=1e-3)
