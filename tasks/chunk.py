"""Cut documents into chunks that the embedding model reads whole."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from prefect import task

from blocks.settings import Settings
from tasks.cuts import Unit, ranges
from tasks.errors import PermanentError
from tasks.limits import check_chunk, check_metadata
from tasks.models import Chunk, Cut, CutDocument, Document, Element, Failure, Parsed
from tasks.retries import ONCE
from tasks.tokens import TokenCounter

if TYPE_CHECKING:
    from tasks.tools import Tools

SENTENCE = re.compile(r".+?(?:(?<![.!?])[.!?]++[\"')\]»”]*+(?:\s+|\Z)|[。！？]+|\Z)", re.DOTALL)
"""A run of full stops is looked at once: a line of 100,000 of them is cut in linear time."""
HEADING_SHARE = 1 / 3
"""The heading path takes this share of a chunk at the most; outer headings are left out of what is embedded."""
MOST_CHARACTERS = 16_000
"""Of one chunk: 65,535 bytes is what Milvus stores, and a word no tokenizer knows counts as one token."""
SEPARATOR = " › "


@dataclass(frozen=True, slots=True)
class Measure:
    """What a chunk may cost, and what a text costs: tokens, or characters where tokens say too little."""

    counter: TokenCounter
    capacity: int

    def costs(self, texts: Sequence[str]) -> list[int]:
        """Return the cost of each text."""
        by_length = (math.ceil(len(text) * self.capacity / MOST_CHARACTERS) for text in texts)
        return [max(pair) for pair in zip(self.counter.count(texts), by_length, strict=True)]


def capacity_of(settings: Settings, counter: TokenCounter, document_prompt: str = "") -> int:
    """Return how many tokens of heading and text a chunk may have: the setting, or what the model reads."""
    window = counter.window - (counter.count([document_prompt])[0] if document_prompt else 0)
    return min(settings.chunk_tokens or window, window)


def cut_document(document: Document, settings: Settings, measure: Measure) -> CutDocument:
    """Return the chunks of a document.

    Sections (runs of elements under the same headings, on the same page) are cut one by one, so no
    chunk mixes two and an edit in one leaves the others alone. Raises ``PermanentError`` for what Milvus cannot hold.
    """
    check_metadata(document.metadata)
    pieces: list[tuple[Element, str, str]] = []
    for _, section in itertools.groupby(document.elements, key=lambda e: (e.headings, e.page)):
        elements = list(section)
        prefix = heading_prefix(elements[0].headings, measure) if settings.embed_heading else ""
        room = measure.capacity - (measure.counter.count([prefix])[0] if prefix else 0)
        pieces += [
            (elements[0], prefix, text) for text in cut_section(elements, replace(measure, capacity=room), prefix)
        ]
    return CutDocument(document.ref, tuple(_identified(document.ref.key, pieces)), document.metadata)


def heading_prefix(headings: tuple[str, ...], measure: Measure) -> str:
    """Return what stands before the text when it is embedded: the heading path, the outermost left out
    first when it is too long, then a line end."""
    for first in range(len(headings)):
        prefix = SEPARATOR.join(headings[first:]) + "\n"
        if measure.counter.count([prefix])[0] <= measure.capacity * HEADING_SHARE:
            return prefix
    return ""


def embedded_text(heading: str, text: str, settings: Settings, measure: Measure) -> str:
    """Return what was embedded for a chunk, from its heading path and text as the index has them."""
    headings = tuple(heading.split(SEPARATOR)) if heading else ()
    return (heading_prefix(headings, measure) if settings.embed_heading else "") + text


def cut_section(elements: Iterable[Element], measure: Measure, prefix: str = "") -> list[str]:
    """Return the texts of a section's chunks, none over the measure's capacity: the model's less the prefix."""
    whole = [element.text for element in elements if element.text.strip()]
    units = [
        unit
        for text, cost in zip(whole, measure.costs(whole), strict=True)
        for unit in ([Unit(text, 0, cost)] if cost <= measure.capacity else cut_element(text, measure))
    ]
    texts = [_joined(units[start:stop]) for start, stop in ranges(units, measure.capacity)]
    return [fitting for text in texts if text for fitting in _refit(text, measure, prefix)]


def cut_element(text: str, measure: Measure) -> list[Unit]:
    """Return a text longer than a chunk as units: its lines, the long ones as sentences, those as words."""
    units = [Unit(text, 0, measure.capacity + 1)]
    for level, cut in ((1, _lines), (2, _sentences), (3, _words)):
        units = [
            finer
            for unit in units
            for finer in ([unit] if unit.cost <= measure.capacity else _finer(unit, cut, level, measure))
        ]
    return units


def _finer(unit: Unit, cut: Callable[[str, Measure], list[str]], level: int, measure: Measure) -> Iterator[Unit]:
    parts = cut(unit.text, measure)
    levels = itertools.chain([unit.level], itertools.repeat(level))
    for part, part_level, cost in zip(parts, levels, measure.costs(parts), strict=False):
        yield Unit(part, part_level, cost)


def _lines(text: str, _measure: Measure) -> list[str]:
    return text.splitlines(keepends=True)


def _sentences(text: str, _measure: Measure) -> list[str]:
    return SENTENCE.findall(text)


def _words(text: str, measure: Measure) -> list[str]:
    most = MOST_CHARACTERS * 9 // 10
    pieces: list[str] = measure.counter.splitter(measure.capacity).chunks(text)
    return [piece[i : i + most] for piece in pieces for i in range(0, len(piece), most)]


def _joined(units: Sequence[Unit]) -> str:
    """Return the units as one text: elements apart by a blank line, parts of one as they stood."""
    text = "".join(("\n\n" if unit.level == 0 and i else "") + unit.text for i, unit in enumerate(units))
    return text.strip()


def _refit(text: str, measure: Measure, prefix: str) -> list[str]:
    """Return the text, cut again where joining its units, or the prefix and it, cost more tokens than their sum.

    Tokenizers that merge across white space may do that; the last word is what the model would read.
    """
    before = measure.counter.count([prefix])[0] if prefix else 0
    cost = max(measure.costs([text])[0], measure.counter.count([prefix + text])[0] - before)
    if cost <= measure.capacity:
        return [text]
    tighter = replace(measure, capacity=max(1, 2 * measure.capacity - cost))
    return [part.strip() for part in _words(text, tighter) if part.strip()]


def _identified(key: str, pieces: Iterable[tuple[Element, str, str]]) -> Iterator[Chunk]:
    seen: Counter[str] = Counter()
    for index, (element, prefix, text) in enumerate(pieces):
        text_hash = hash_of(prefix + text)
        seen[text_hash] += 1
        made = Chunk(
            id=hash_of(f"{key}\0{text_hash}\0{seen[text_hash]}"),
            key=key,
            index=index,
            text=text,
            heading=SEPARATOR.join(element.headings),
            page=element.page,
            embedded=prefix + text,
            text_hash=text_hash,
        )
        check_chunk(made)
        yield made


def hash_of(text: str) -> str:
    """Return the hash that texts and chunks are known by: 32 hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


@task(task_run_name="chunk batch {number}", **ONCE)
def chunk(parsed: Parsed, tools: Tools, number: int) -> Cut:  # noqa: ARG001 - names the run
    """Cut the documents of a batch. Returns them as chunks, with the failures so far."""
    documents: list[CutDocument] = []
    failures = list(parsed.failures)
    for document in parsed.documents:
        try:
            documents.append(cut_document(document, tools.settings, tools.measure))
        except PermanentError as error:
            failures.append(Failure(document.ref, str(error)))
        except Exception as error:  # noqa: BLE001 - one document that cannot be cut must not stop its neighbours
            failures.append(Failure(document.ref, f"its text cannot be cut into chunks: {error}"))
    return Cut(tuple(documents), tuple(failures), parsed.moved_on)
