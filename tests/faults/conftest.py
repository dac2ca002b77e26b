"""The parts that every fault is tried on, and a process that runs syncs which are killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa

from blocks.milvus_store import MilvusStore
from flows.sync import sync
from tasks.ledger.database import Database
from tasks.ledger.tables import WRITERS
from tasks.pipelines import load_pipeline
from tests.support.generations import TOPICS, document
from tests.support.pipelines import pipeline_maker
from tests.support.servers import ROOT, Bucket, Server, sqlite_url

LITE, SERVER = "milvus-lite, sqlite", "milvus-2.3.5, postgresql"


ON_BOTH = {
    "test_no_question_fails_or_mixes_while_the_alias_goes_back_and_forth",
    "test_another_index_embeds_nothing",
    "test_an_index_that_the_server_has_not_is_refused_before_anything_is_made",
    "test_a_milvus_that_is_killed_and_restarted_in_the_middle_of_a_sync",
    "test_one_clean_sync_makes_the_index_equal_to_the_bucket",
    "test_what_a_sync_of_keys_has_confirmed_is_seen_by_the_next_search",
}
"""What Milvus or PostgreSQL have a part in. What the others show is decided before: on the real servers `make test-all`
tries them as well."""
ON_SERVERS_ALONE = {
    "test_no_question_fails_or_mixes_while_the_alias_goes_back_and_forth",
    "test_another_index_embeds_nothing",
    "test_one_clean_sync_makes_the_index_equal_to_the_bucket",
}
"""What takes a minute or more, and shows more on the real servers: on the small parts `make test-all` tries it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Several of these tests run at once, each with servers of its own: they have longer than others to end."""
    for item in items:
        test = item.name.partition("[")[0]
        if (SERVER in item.nodeid and test not in ON_BOTH) or (LITE in item.nodeid and test in ON_SERVERS_ALONE):
            item.add_marker(pytest.mark.long)
        if SERVER in item.nodeid:  # one worker has them: each Milvus takes a share of a core also when nobody asks it
            item.add_marker(pytest.mark.xdist_group("servers"))
        if item.path.parent.name == "faults" and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(params=[LITE, SERVER], scope="module")
def parts(request: pytest.FixtureRequest) -> str:
    """The small parts, then the real servers: what holds on the one must hold on the other."""
    return str(request.param)


@pytest.fixture
def milvus(parts: str, request: pytest.FixtureRequest) -> Server:
    return cast(Server, request.getfixturevalue("milvus_lite" if parts == LITE else "milvus_server"))


@pytest.fixture
def ledger(parts: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """The URL of an empty ledger."""
    return sqlite_url(tmp_path) if parts == LITE else str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def make_pipeline(
    prefect_api: None, s3_server: Server, milvus: Server, bucket: Bucket, ledger: str
) -> Iterator[Callable[..., str]]:
    """Save a pipeline over the test's bucket and return its name. Keyword arguments replace its settings.

    What it made in Milvus goes at the end: a server that holds the collections of fifty tests is busy with them.
    """
    yield pipeline_maker(bucket, s3_server.url, milvus.url, ledger)
    client = MilvusStore(uri=milvus.url).get_client()
    for collection in client.list_collections():
        for alias in client.list_aliases(collection)["aliases"]:
            client.drop_alias(alias)
        client.drop_collection(collection)
    client.close()


@pytest.fixture
def name(make_pipeline: Callable[..., str], bucket: Bucket) -> str:
    """A synced pipeline of eight objects."""
    for topic in TOPICS:
        bucket.put(f"{topic}.md", document(topic))
    made = make_pipeline()
    sync(made)
    return made


class Victim:
    """Runs syncs that kill themselves at a place or after some seconds; see `tests/support/crash_process.py`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def sync(self, pipeline: str, **when: Any) -> int:
        """Sync and die; returns the exit status, -9 when it was killed. Then free the way for the next writer.

        That the lease of a dead writer ends by itself is shown in the ledger's contract; here it would take 30 s.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"pipeline": pipeline, **when}) + "\n")
        self._process.stdin.flush()
        status = int(self._process.stdout.readline())
        with Database(load_pipeline(pipeline).ledger).transaction() as connection:
            connection.execute(sa.delete(WRITERS))
        return status


@pytest.fixture(scope="module")
def victim(prefect_api: None) -> Iterator[Victim]:
    from prefect.settings import PREFECT_API_URL

    env = {**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value()), "PREFECT_LOGGING_TO_API_ENABLED": "false"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.crash_process"], cwd=ROOT, env=env, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    yield Victim(process)
    process.kill()
    process.wait()
