"""What an answer is written from: passages joined from chunks, without copies, in a cross-encoder's order."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from blocks.chat_model import ChatModel
from flows.ask import ask
from flows.sync import sync
from tasks.embedding import reranker
from tasks.models import Answer
from tasks.pipelines import load_pipeline
from tasks.retrieval.batch_search import search_all
from tasks.retrieval.question import Question
from tests.support.chat_server import StubChat, claims
from tests.support.servers import Bucket

QUESTION = "How often is the filter of the press replaced?"
ANSWER = "The filter of the press is replaced every 300 hours."
FILLER = "The {} part of the press is looked at by the operator each morning before the day begins, and it is oiled."
PARTS = ["left", "right", "upper", "lower", "inner", "outer", "front", "rear", "first", "last", "old", "new"]
BEFORE, BEHIND = (" ".join(map(FILLER.format, parts)) for parts in (PARTS, PARTS[::-1]))
SECTION = f"{BEFORE} {ANSWER} {BEHIND}"


@pytest.fixture
def chat() -> Iterator[StubChat]:
    chat = StubChat()
    chat.tokenizes = True
    chat.replies = [(200, claims(("Every 300 hours.", [(1, "every 300 hours")])))]
    yield chat
    chat.close()


@pytest.fixture
def asked(make_pipeline: Callable[..., str], bucket: Bucket, chat: StubChat) -> Callable[..., Answer]:
    """Ask a small index, a copy of its longest document in it, with other settings each time."""
    bucket.put("press.md", f"# Press\n\n## Care\n\n{SECTION}\n\n## Notes\n\nThe press is green.")
    bucket.put("copies/press.md", f"# Press\n\n## Care\n\n{SECTION}\n\n## Notes\n\nThe press is green.")
    bucket.put("cake.md", "# Cake\n\nA cake is baked for forty minutes.")
    name = make_pipeline(chat_model=ChatModel(base_url=chat.url), chunk_tokens=96)
    sync(name)

    def ask_with(**settings: object) -> Answer:
        block = load_pipeline(name)
        return ask(QUESTION, name, block.settings.model_copy(update=settings))

    return ask_with


def test_neighbours_of_a_section_are_read_with_what_was_found(asked: Callable[..., Answer], chat: StubChat) -> None:
    lone = asked(neighbours=0, top_k=1)
    assert lone.passages[0].parts == ()
    assert ANSWER in lone.passages[0].text
    found = asked(neighbours=1, top_k=1)
    (passage,) = found.passages
    assert len(passage.parts) == 3
    assert passage.heading == "Press › Care"
    assert passage.text[slice(passage.parts[1].begin, passage.parts[1].end)] == lone.passages[0].text
    assert "green" not in passage.text  # another section
    assert passage.text in chat.requests[-1]["messages"][1]["content"]
    # The citation leads to the chunk that the quote stands in, not to the passage.
    made, same = found.citations[0], lone.citations[0]
    assert (made.chunk_id, made.span) == (same.chunk_id, same.span)
    assert lone.passages[0].text[slice(*(made.span or (0, 0)))] == "every 300 hours"
    assert "join" in found.seconds


def test_a_passage_ends_where_its_section_ends(asked: Callable[..., Answer]) -> None:
    (passage,) = asked(neighbours=10, top_k=1).passages
    assert len(passage.parts) > 3
    assert " ".join(passage.text.split()) == SECTION


def test_copies_make_room_for_something_else(asked: Callable[..., Answer]) -> None:
    found = asked(neighbours=0, top_k=3)
    assert len({passage.text for passage in found.passages}) == len(found.passages)
    assert sum(ANSWER in passage.text for passage in found.passages) == 1
    # A search shows where a text stands, all of it.
    block = load_pipeline(found.collection.split("_g")[0])
    (all_of_it,) = search_all(block, [Question("", QUESTION)], block.settings)
    assert {hit.key for hit in all_of_it.hits if ANSWER in hit.text} == {"press.md", "copies/press.md"}


def test_a_cross_encoder_has_the_last_word(asked: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in that finds cake: a real one of random weights is in tests/unit/embedding/test_reranker.py."""
    likes_cake = lambda _question, texts: [float("cake" in text) for text in texts]  # noqa: E731
    monkeypatch.setattr(reranker, "_load", lambda _: None)
    for module in ("tasks.retrieval.retrieve", "tasks.answers.answer"):
        monkeypatch.setattr(f"{module}.load_reranker", lambda _: likes_cake)
    found = asked(rerank_model="a/cross-encoder", neighbours=0)
    assert (found.passages[0].key, found.passages[0].score) == ("cake.md", 1.0)
    assert asked(rerank_model="", neighbours=0).passages[0].key != "cake.md"
