"""Answers kept for later questions: what makes another one, and how they end."""

from __future__ import annotations

import base64
import json
import os
import pickle
import time
import zlib
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.filesystems import LocalFileSystem
from prefect.settings import PREFECT_API_URL, PREFECT_LOCAL_STORAGE_PATH, temporary_settings
from pydantic import SecretStr

from blocks.chat_model import ChatModel
from blocks.ledger import Ledger
from blocks.settings import Settings
from tasks.answers import cache
from tasks.answers.cache import FOLDER, AnswerCache, CachedAnswer, key_of, sweep
from tasks.ledger.database import Database
from tasks.models import Citation, Claim, Hit
from tasks.retrieval.retrieve import Retrieved

HIT = Hit("c1", "a.md", 0.9, "Text.", "Guide", 1, "hash", etag="e1")
FOUND = Retrieved("docs_g0001", (HIT,), 0.9)
CHAT = ChatModel(base_url="http://vllm/v1", model="m", api_key=SecretStr("key"))
ANSWER = CachedAnswer(
    "Because. [1]", "generated", (Claim("Because.", (1,), True),),
    (Citation(1, "a.md", "Guide", None, "Text.", "c1", version="e1", span=(0, 5)),), {"prompt": 1}, ("a note",),
)  # fmt: skip


def key(**changes: Any) -> str:
    given = {"question": "Why?", "settings": Settings(), "chat": CHAT, "found": FOUND, "state": "1:2:3"} | changes
    return key_of(**given)


@pytest.mark.parametrize(
    "changes",
    [
        {"question": "Why ?"},
        {"settings": Settings(temperature=0.1)},
        {"settings": Settings(system_prompt="Be kind.")},
        {"settings": Settings(strict=True)},
        {"settings": Settings(stages=2)},
        {"settings": Settings(cache_seconds=60)},
        {"chat": ChatModel(base_url="http://vllm/v1", model="another")},
        {"chat": ChatModel(base_url="http://other/v1", model="m")},
        {"found": replace(FOUND, collection="docs_g0002")},
        {"found": replace(FOUND, hits=(HIT, HIT))},
        {"found": replace(FOUND, hits=())},
        {"found": replace(FOUND, hits=(replace(HIT, text="Text"),))},
        {"found": replace(FOUND, hits=(replace(HIT, etag="e2"),))},
        {"found": replace(FOUND, hits=(replace(HIT, outdated=True),))},
        {"found": replace(FOUND, hits=(replace(HIT, key="tenant/a.md"),))},
        {"found": replace(FOUND, hits=(replace(HIT, heading="Manual"),))},
        {"found": replace(FOUND, hits=(replace(HIT, page=2),))},
        {"found": replace(FOUND, hits=(replace(HIT, page=None),))},
        {"found": replace(FOUND, hits=(replace(HIT, chunk_id="c2"),))},
        {"found": replace(FOUND, hits=(replace(HIT, chunk_id="c2"), HIT))},
        {"found": replace(FOUND, hits=(HIT, replace(HIT, chunk_id="c2")))},
        {"state": "1:2:4"},
    ],
)
def test_whatever_an_answer_follows_from_is_in_its_key(changes: dict[str, Any]) -> None:
    assert key(**changes) != key()


@pytest.mark.parametrize("version", ["VERSION", "FORMATS"])
def test_what_another_version_of_lockstep_kept_is_not_found(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that checks answers, or words its prompts, in another way."""
    before = key()
    monkeypatch.setattr(cache, version, "another")
    assert key() != before


def test_the_order_of_the_passages_is_in_its_key() -> None:
    two = (HIT, replace(HIT, chunk_id="c2"))
    assert key(found=replace(FOUND, hits=two)) != key(found=replace(FOUND, hits=two[::-1]))


def test_what_it_does_not_follow_from_is_not() -> None:
    other = ChatModel(base_url="http://vllm/v1", model="m", api_key=SecretStr("another"), timeout_seconds=1)
    assert key(chat=other) == key()
    assert key(found=replace(FOUND, best=0.8, notes=("n",), hits=(replace(HIT, score=0.8),))) == key()


def test_nothing_is_kept_where_nobody_asked_for_it(tmp_path: Path) -> None:
    def of(chat: ChatModel | None, **settings: Any) -> AnswerCache | None:
        pipeline: Any = SimpleNamespace(chat_model=chat)
        with Database(Ledger(url=SecretStr(f"sqlite:///{tmp_path / 'l.db'}"))) as ledger:
            return cache.kept(pipeline, "Why?", Settings(**settings), FOUND, ledger)

    assert of(CHAT, cache_seconds=60)
    assert of(CHAT, cache_seconds=0) is None
    assert of(None, cache_seconds=60) is None


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalFileSystem:
    where = LocalFileSystem(basepath=str(tmp_path))
    monkeypatch.setattr(cache, "_storage", lambda: where)
    return where


def test_what_is_kept_is_read_again_until_its_time_is_over(
    store: LocalFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert AnswerCache("k", 60).read() is None
    AnswerCache("k", 60).write(ANSWER)
    assert AnswerCache("k", 60).read() == ANSWER
    assert AnswerCache("l", 60).read() is None
    AnswerCache("l", 0.05).write(ANSWER)
    time.sleep(0.1)
    assert AnswerCache("l", 0.05).read() is None


class Runs:
    """What runs when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.file),)


def test_what_somebody_else_wrote_into_the_storage_runs_nothing(tmp_path: Path, store: LocalFileSystem) -> None:
    """Prefect's own records name their serializer: one that unpickles, or one that builds a type."""
    ran = tmp_path / "ran"
    built = {"__class__": "tests.unit.answers.test_cache.Runs", "data": str(ran)}
    for serializer, result in (
        ({"type": "pickle"}, base64.b64encode(pickle.dumps(Runs(ran))).decode()),
        ({"type": "compressed/pickle"}, base64.b64encode(zlib.compress(pickle.dumps(Runs(ran)))).decode()),
        ({"type": "json"}, json.dumps(built)),
    ):
        metadata = {"serializer": serializer, "expiration": None, "prefect_version": "3.8.8", "storage_key": "k"}
        record = {"metadata": metadata, "result": result, "until": "2999-01-01T00:00:00+00:00", "answer": built}
        (tmp_path / FOLDER).mkdir(exist_ok=True)
        (tmp_path / FOLDER / "k").write_text(json.dumps(record))
        assert AnswerCache("k", 60).read() is None
        assert not ran.exists()


def test_a_storage_that_fails_costs_no_answer(tmp_path: Path, store: LocalFileSystem) -> None:
    AnswerCache("k", 60).write(ANSWER)
    file = tmp_path / FOLDER / "k"
    for damaged in (b"", b"{", file.read_bytes()[:-20], b'{"metadata": {}, "result": 1}'):
        file.write_bytes(damaged)
        assert AnswerCache("k", 60).read() is None
    file.unlink()
    (tmp_path / FOLDER).rmdir()
    (tmp_path / FOLDER).write_text("a file where the folder should be")
    AnswerCache("k", 60).write(ANSWER)
    assert AnswerCache("k", 60).read() is None


def test_what_nobody_can_ask_for_any_more_is_deleted(tmp_path: Path, store: LocalFileSystem) -> None:
    for name in ("old", "new"):
        AnswerCache(name, 60).write(ANSWER)
    old = tmp_path / FOLDER / "old"
    os.utime(old, (0, time.time() - 90_000))
    sweep(str(tmp_path), 200_000)
    assert old.exists(), "its lifetime is not over"
    AnswerCache("another", 60).write(ANSWER)
    assert not old.exists()
    assert AnswerCache("new", 60).read() == ANSWER


def test_an_api_that_does_not_answer_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may name another place for results. Prefect's own client would ask six times, for two minutes, each time."""
    asked = []

    class Restarting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(503)

        def log_message(self, *_: object) -> None: ...

    monkeypatch.setattr(cache, "_storages", {})
    with ThreadingHTTPServer(("127.0.0.1", 0), Restarting) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/api"
        with temporary_settings({PREFECT_API_URL: url, PREFECT_LOCAL_STORAGE_PATH: str(tmp_path)}):
            AnswerCache("k", 60).write(ANSWER)
            assert AnswerCache("k", 60).read() == ANSWER
        server.shutdown()
    assert len(asked) == 1
    assert (tmp_path / FOLDER / "k").exists()
