"""Read and write a generation in Milvus."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from tasks import traces
from tasks.addresses import check_address
from tasks.crash_points import crash_point
from tasks.errors import LockstepError, PartError, TransientError
from tasks.limits import WRITE_SECONDS
from tasks.milvus.capabilities import Capabilities, capabilities
from tasks.milvus.consistency import last_write, seeing
from tasks.milvus.errors import milvus_errors
from tasks.milvus.expressions import literal
from tasks.milvus.portions import portions
from tasks.milvus.schema import fields, generation_number, indexes
from tasks.milvus.search import OUTPUT, SEARCHES, Queries, as_hit
from tasks.sanitize import keep_secrets

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pymilvus import MilvusClient

    from blocks.milvus_store import MilvusStore
    from blocks.settings import Settings
    from tasks.models import Hit

HASHES_AT_ONCE = 512
KEYS_AT_ONCE = 64
READ_AT_ONCE = 4096
CONFIRMATIONS = 5


class Store:
    """A Milvus server and the alias that queries use. Any thread may write; the writes run one at a time."""

    def __init__(self, block: MilvusStore, alias: str) -> None:
        """Connect. Raises ``TransientError`` if the server does not answer, ``PartError`` if it refuses."""
        self.block = block
        keep_secrets(block)
        self.alias = alias
        self._writing = threading.Lock()
        self._loaded: set[str] = set()
        self._pointed = False
        """Whether the alias was there when it was last looked for."""
        self.sees: dict[str, int | None] = {}
        """The time of Milvus, by collection, up to which a search has to see all writes."""
        self.check_writer: Callable[[], None] = lambda: None
        """Called before each write. Raises if another writer has taken over."""
        check_address(block.uri, "Milvus", "MILVUS_URI")
        with self._call() as options, ExitStack() as if_not:
            self.client: MilvusClient = block.get_client()
            if_not.callback(self.client.close)  # pymilvus keeps a client for ever unless it is closed
            self.capabilities: Capabilities = capabilities(self.client.get_server_version(**options))
            if_not.pop_all()

    def close(self) -> None:
        """Close the connection."""
        self.client.close()

    def __enter__(self) -> Store:
        """Return itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the connection."""
        self.close()

    @contextmanager
    def _call(self) -> Iterator[dict[str, Any]]:
        try:
            with milvus_errors(self.block):
                yield {"timeout": self.block.timeout_seconds}
        except TransientError:
            # A restarted server has released its collections. The next attempt has to load them again.
            self._loaded.clear()
            raise

    @contextmanager
    def _write(self) -> Iterator[dict[str, Any]]:
        """Make one write that ends before another writer may begin (see :mod:`tasks.ledger.lease`)."""
        with self._writing, self._call() as options:
            self.check_writer()
            yield {"timeout": min(options["timeout"], WRITE_SECONDS)}

    # Generations

    def live(self) -> str | None:
        """Return the collection that the alias points at, or None before the first sync."""
        if self._pointed:  # one call instead of two: each question makes it
            try:
                return self._described()
            except TransientError:
                raise
            except LockstepError:
                pass  # it may be gone
        with self._call() as options:  # first, since pymilvus logs a trace when an alias to describe is not there
            self._pointed = bool(self.client.has_collection(self.alias, **options))
        return self._described() if self._pointed else None

    def _described(self) -> str:
        with self._call() as options:
            name: str = self.client.describe_alias(self.alias, **options)["collection_name"]
        return name

    def resolve(self) -> str:
        """Return the collection behind the alias. Call it once a question, so that an answer uses one generation.

        Raises ``PartError`` before the first sync.
        """
        if collection := self.live():
            return collection
        raise PartError(
            f"Milvus: {self.block.uri} has no '{self.alias}' yet. Run `lockstep sync`, or check COLLECTION_NAME."
        )

    def newest_number(self) -> int:
        """Return the highest number of this alias' generations, or 0 if there are none."""
        with self._call() as options:
            names = self.client.list_collections(**options)
        return max((generation_number(self.alias, name) or 0 for name in names), default=0)

    def create(self, collection: str, dimension: int, settings: Settings, properties: Mapping[str, str]) -> None:
        """Create a generation, indexed and loaded, or finish one that is half made. The alias stays as it is.

        ``properties`` are stored with the collection.
        """
        with self._call() as options:
            if not self.client.has_collection(collection, **options):
                self.client.create_collection(
                    collection,
                    schema=fields(self.client, dimension, self.capabilities, settings.tenants),
                    properties=dict(properties),
                    consistency_level="Bounded",
                    **options,
                )
                crash_point("collection made")
            # A process that died here left some indexes out. Indexes of an empty collection are there at once, so do
            # not wait for them: pymilvus would sleep half a second for each.
            there = set(self.client.list_indexes(collection, **options))
            wanted, missing = indexes(self.client, self.capabilities, settings), self.client.prepare_index_params()
            missing.extend(index for index in wanted if index.field_name not in there)
            if missing:
                self.client.create_index(collection, missing, sync=False, **options)
        self.load(collection)

    def properties(self, collection: str) -> dict[str, str]:
        """Return the properties stored with a collection, as far as the server kept them."""
        with self._call() as options:
            return dict(self.client.describe_collection(collection, **options).get("properties", {}))

    def keep_property(self, collection: str, name: str, value: str) -> None:
        """Store a property with a collection. Milvus 2.3 forgets such a change when it restarts."""
        with self._write() as options:
            self.client.alter_collection_properties(collection, properties={name: value}, **options)

    def dimension_of(self, collection: str) -> int:
        """Return the dimension of a collection's vectors."""
        with self._call() as options:
            described = self.client.describe_collection(collection, **options)
        return int(next(one for one in described["fields"] if one["name"] == "embedding")["params"]["dim"])

    def exists(self, collection: str) -> bool:
        """Return whether a collection exists."""
        with self._call() as options:
            return bool(self.client.has_collection(collection, **options))

    def drop(self, collection: str) -> None:
        """Drop a generation. It is no error if it is gone already. Raises ``PartError`` for the live one."""
        if collection == self.live():
            raise PartError(f"Milvus: {collection} is live, so it was not dropped. Promote another generation first.")
        with self._write() as options:
            self.client.drop_collection(collection, **options)
        self._loaded.discard(collection)

    def point_alias(self, collection: str) -> None:
        """Point the alias at a collection, in one call."""
        live = self.live()
        with self._write() as options:
            if live is None:
                self.client.create_alias(collection, self.alias, **options)
            elif live != collection:
                self.client.alter_alias(collection, self.alias, **options)
        crash_point("alias moved")

    def check_alias_is_free(self) -> None:
        """Raise ``PartError`` if a collection has the alias' name."""
        with self._call() as options:
            if self.alias in self.client.list_collections(**options):
                raise PartError(
                    f"Milvus: {self.block.uri} has a collection named '{self.alias}', so it cannot be an alias. "
                    "Set COLLECTION_NAME to another name, or rename that collection."
                )

    def load(self, collection: str) -> None:
        """Load a collection, unless this process has done so. A restarted server has released its collections."""
        if collection not in self._loaded:
            with self._call() as options:
                self.client.load_collection(collection, **options)
            self._loaded.add(collection)

    def flush(self, collection: str) -> None:
        """Flush written rows into segments, for which the server then builds the index."""
        with self._call() as options:
            self.client.flush(collection, **options)

    def seal(self, collection: str, wait_seconds: float, reload: bool = True) -> None:
        """Make searches of a collection use its index for all rows, as they will do later by themselves.

        Otherwise the last rows written are searched without the index. ``reload`` releases the collection and loads it
        again, so only use it for one that is not live. Without ``reload`` it stays loaded, and its newest segments
        switch to the index in their own time. Raises ``TransientError`` if the index is not built in time.
        """
        self.flush(collection)
        until = time.monotonic() + wait_seconds
        while self._pending(collection):
            if time.monotonic() > until:
                raise TransientError(f"Milvus: {self.block.uri} is still building the index of {collection}.")
            time.sleep(0.5)
        if not reload:
            return
        with self._call() as options:  # loaded segments switch to the index seconds later, newly loaded ones at once
            self.client.release_collection(collection, **options)
        self._loaded.discard(collection)
        self.load(collection)

    def _pending(self, collection: str) -> int:
        with self._call() as options:
            return int(self.client.describe_index(collection, "embedding", **options)["pending_index_rows"])

    # Reading, always with strong consistency

    def known_vectors(self, collection: str, hashes: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Return the vectors of the texts that the collection has, by ``text_hash``."""
        found: dict[str, NDArray[np.float32]] = {}
        for start in range(0, len(hashes), HASHES_AT_ONCE):
            found.update(self._some_vectors(collection, hashes[start : start + HASHES_AT_ONCE]))
        return found

    def _some_vectors(self, collection: str, hashes: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        import numpy as np

        self.load(collection)
        found: dict[str, NDArray[np.float32]] = {}
        rest = list(hashes)
        while rest:
            # One text may be in ten thousand documents. So read a bounded number of rows, then query again for the
            # hashes that were not among them.
            with self._call() as options:
                rows = self.client.query(
                    collection,
                    filter=f"text_hash in {literal(rest)}",
                    output_fields=["text_hash", "embedding"],
                    limit=READ_AT_ONCE,
                    consistency_level="Strong",
                    **options,
                )
            found.update((row["text_hash"], np.asarray(row["embedding"], np.float32)) for row in rows)
            if len(rows) < READ_AT_ONCE:
                break
            rest = [text_hash for text_hash in rest if text_hash not in found]
        return found

    def ids_of(self, collection: str, keys: Sequence[str]) -> list[str]:
        """Return the ids of all chunks of the given objects."""
        return [row["id"] for row in self.rows_of(collection, keys, ["id"])]

    def rows_of(self, collection: str, keys: Sequence[str], output: list[str]) -> Iterator[dict[str, Any]]:
        """Yield the rows of all chunks of the given objects. Reads in pages: one object may have half a million."""
        if not keys:
            return
        self.load(collection)
        chosen = f"key in {literal(keys)}"
        with self._call() as options:
            found = self.client.query(
                collection,
                filter=chosen,
                output_fields=output,
                limit=READ_AT_ONCE,
                consistency_level="Strong",
                **options,
            )
        if len(found) < READ_AT_ONCE:
            yield from map(dict, found)
        else:  # after the strong read above, all earlier writes are visible
            yield from self._pages(collection, output, READ_AT_ONCE, chosen)

    def last_write(self, collection: str) -> int:
        """Return Milvus' own time of this process' last write to a collection, or 0 if it does not say."""
        return last_write(self.client, collection)

    def delete(self, collection: str, ids: Sequence[str]) -> None:
        """Delete chunks by id."""
        for start in range(0, len(ids), READ_AT_ONCE):
            with self._write() as options:
                self.client.delete(collection, ids=list(ids[start : start + READ_AT_ONCE]), **options)
            crash_point("some chunks deleted")

    def vectors_of(self, collection: str, ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Return the vectors of chunks, by id."""
        import numpy as np

        found = self.with_ids(collection, ids, ["id", "embedding"])
        return {row["id"]: np.asarray(row["embedding"], np.float32) for row in found}

    def with_ids(self, collection: str, ids: Sequence[str], output: list[str]) -> list[dict[str, Any]]:
        """Return the rows of the chunks with the given ids."""
        found: list[dict[str, Any]] = []
        for start in range(0, len(ids), HASHES_AT_ONCE):
            chosen = literal(ids[start : start + HASHES_AT_ONCE])
            with self._call() as options:
                found += self.client.query(
                    collection,
                    filter=f"id in {chosen}",
                    output_fields=output,
                    consistency_level="Strong",
                    **options,
                )
        return found

    def chunks(self, collection: str, ids: Sequence[str], where: str = "") -> list[Hit]:
        """Return the chunks with the given ids, as far as ``where``, a Milvus expression, selects them. Score 0."""
        self.load(collection)
        chosen = f"id in {literal(ids)}"
        with self._call() as options:
            found = self.client.query(
                collection,
                filter=f"({chosen}) and ({where})" if where else chosen,
                output_fields=OUTPUT,
                consistency_level="Strong",
                **options,
            )
        return [as_hit({"id": row["id"], "entity": row, "distance": 0.0}) for row in found]

    def neighbours(self, collection: str, hits: Sequence[Hit], reach: int, where: str = "") -> list[Hit]:
        """Return the chunks up to ``reach`` places before and after the hits, of the same version of their objects.

        ``where`` is a Milvus expression that selects among them. Their score is 0.
        """
        if not hits:
            return []
        places = " or ".join(
            f"(key == {literal(hit.key)} and etag == {literal(hit.etag)} and "
            f"chunk_index >= {hit.chunk_index - reach} and chunk_index <= {hit.chunk_index + reach})"
            for hit in hits
        )
        with self._call() as options:
            found = self.client.query(
                collection, filter=f"({places}) and ({where})" if where else places, output_fields=OUTPUT, **options
            )
        return [as_hit({"id": row["id"], "entity": row, "distance": 0.0}) for row in found]

    def rows(self, collection: str, output: list[str], at_once: int = READ_AT_ONCE) -> Iterator[dict[str, Any]]:
        """Yield all rows of a collection, read in pages."""
        # Milvus' iterator does not wait for the last writes, whatever consistency is requested. After a strong read
        # it sees all earlier writes.
        self.count(collection)
        yield from self._pages(collection, output, at_once)

    def _pages(self, collection: str, output: list[str], at_once: int, where: str = "") -> Iterator[dict[str, Any]]:
        with self._call() as options:
            iterator = self.client.query_iterator(
                collection,
                batch_size=at_once,
                filter=where,
                output_fields=output,
                consistency_level="Strong",
                **options,
            )
            try:
                while page := iterator.next():
                    yield from page
            finally:
                iterator.close()

    def count(self, collection: str) -> int:
        """Return the number of chunks in a collection."""
        self.load(collection)
        with self._call() as options:
            rows = self.client.query(
                collection, filter="", output_fields=["count(*)"], consistency_level="Strong", **options
            )
            return int(rows[0]["count(*)"])

    # Writing

    def upsert(self, collection: str, rows: Iterable[Mapping[str, Any]]) -> int:
        """Write rows, replacing those with the same id. Return how many were written."""
        count = 0
        for some in portions(rows):
            with self._write() as options:
                self.client.upsert(collection, some, **options)
            count += len(some)
            crash_point("some rows written")
        return count

    def prune(self, collection: str, keys: Sequence[str], keep: set[str]) -> int:
        """Delete the chunks of the given objects except ``keep``. Return how many, once Milvus confirms.

        Raises ``TransientError`` if some are still there after several rounds.
        """
        return sum(
            self._prune(collection, keys[start : start + KEYS_AT_ONCE], keep)
            for start in range(0, len(keys), KEYS_AT_ONCE)
        )

    def _prune(self, collection: str, keys: Sequence[str], keep: set[str]) -> int:
        deleted: set[str] = set()
        for _ in range(CONFIRMATIONS):
            stale = [chunk_id for chunk_id in self.ids_of(collection, keys) if chunk_id not in keep]
            if not stale:
                return len(deleted)
            deleted.update(stale)
            self.delete(collection, stale)
        raise TransientError(f"Milvus: {self.block.uri} still has deleted chunks of {collection}.")

    # Searching

    def search(
        self,
        collection: str,
        questions: Sequence[str],
        vectors: Sequence[NDArray[np.float32]],
        settings: Settings,
        where: str = "",
    ) -> list[list[Hit]]:
        """Return the best chunks for each question, best first, at most ``settings.top_k``, in the settings' mode.

        The questions go in one call. ``vectors`` are their unit vectors, and ``where`` is a Milvus expression that
        selects the chunks to search. In mode hybrid Milvus fuses by ranks.
        """
        self.load(collection)
        asked = Queries(questions, vectors, settings, where)
        with traces.search(collection, self.block.uri, settings.mode), self._call() as options:
            found = SEARCHES[settings.mode](self.client, collection, asked, options | seeing(self.sees.get(collection)))
        return [[as_hit(row) for row in rows] for rows in found]
