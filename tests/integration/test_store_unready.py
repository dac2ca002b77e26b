"""A Milvus that takes connections and is of no use yet, as behind a gateway while it starts: over gRPC, from a stub."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import grpc
import pytest

from blocks.milvus_store import MilvusStore
from blocks.pymilvus_import import load_pymilvus
from tasks.errors import LockstepError
from tasks.milvus.store import Store


@pytest.fixture(params=["silent", "refusing"])
def unready(request: pytest.FixtureRequest) -> Iterator[MilvusStore]:
    load_pymilvus()
    from pymilvus.grpc_gen import common_pb2, milvus_pb2, milvus_pb2_grpc

    over = Event()

    class Servicer(milvus_pb2_grpc.MilvusServiceServicer):  # type: ignore[misc]
        def Connect(self, *_: Any) -> Any:
            return milvus_pb2.ConnectResponse(status=common_pb2.Status(), identifier=1)

        def GetVersion(self, *_: Any) -> Any:
            if request.param == "silent":
                over.wait(600)
            status = common_pb2.Status(error_code=1, code=65535, reason="service unavailable: proxy not ready")
            return milvus_pb2.GetVersionResponse(status=status)

    server = grpc.server(ThreadPoolExecutor(4))
    milvus_pb2_grpc.add_MilvusServiceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield MilvusStore(uri=f"http://127.0.0.1:{port}", timeout_seconds=1)
    over.set()
    server.stop(0).wait(10)


@pytest.mark.timeout(60)
def test_it_is_given_up_in_time_and_nothing_of_it_is_kept(unready: MilvusStore) -> None:
    """Silence is not waited for longer than the block says; pymilvus keeps each client that nobody closes."""
    from pymilvus.client.connection_manager import ConnectionManager

    kept = ConnectionManager.get_instance()._dedicated
    before = len(kept)
    for _ in range(3):
        with pytest.raises(LockstepError, match="Milvus"):
            Store(unready, "docs")
    assert len(kept) == before
