"""Cut documents into chunks that fit the embedding model's window."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from blocks.settings import Settings
from tasks.documents.cut_points import Unit, cut, rank
from tasks.documents.spool import Spool
from tasks.embedding.tokenizer import CHARACTERS_AT_ONCE, TokenCounter, in_pieces
from tasks.limits import check_chunk, check_metadata
from tasks.models import Chunk, CutDocument, Document, Element

SENTENCE = re.compile(r".+?(?:(?<![.!?])[.!?]++[\"')\]»”]*+(?:\s+|\Z)|[。！？]+|\Z)", re.DOTALL)
"""A run of full stops is scanned once, so a line of 100,000 of them is cut in linear time."""
HEADING_SHARE = 1 / 3
"""The largest share of a chunk for its heading path. If the path is longer, outer headings are not embedded."""
MOST_CHARACTERS = 16_000
"""The limit for one chunk. Milvus stores 65,535 bytes, and an unknown word of any length counts as one token."""
MOST_COUNTED = 2 * MOST_CHARACTERS
LINE_END = re.compile("\r\n|[\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029]")
"""The line ends at which ``str.splitlines`` splits."""
SEPARATOR = " › "
UNMEASURED = -1
"""The cost of a unit before it is counted."""


@dataclass(frozen=True, slots=True)
class Measure:
    """The cost limit of a chunk and the cost of texts: tokens, or characters where tokens are too few."""

    counter: TokenCounter
    capacity: int

    def costs(self, texts: Sequence[str]) -> list[int]:
        """Return the cost of each text."""
        # A text far over the limit by its length need not be counted: an element may be a file of fifty megabytes.
        counted = iter(self.counter.count([text for text in texts if len(text) <= MOST_COUNTED]))
        return [
            max(
                math.ceil(len(text) * self.capacity / MOST_CHARACTERS),
                next(counted) if len(text) <= MOST_COUNTED else 0,
            )
            for text in texts
        ]


def capacity_of(settings: Settings, counter: TokenCounter, document_prompt: str = "") -> int:
    """Return how many tokens of heading and text a chunk may have: the setting, but at most the model's window."""
    window = counter.window - (counter.count([document_prompt])[0] if document_prompt else 0)
    return min(settings.chunk_tokens or window, window)


def cut_document(
    document: Document,
    settings: Settings,
    measure: Measure,
    keep: Callable[[Iterable[Chunk]], Collection[Chunk]] = tuple,
) -> CutDocument:
    """Return the chunks of a document.

    Sections (runs of elements under the same headings, on the same page) are cut one by one. So no chunk mixes two
    sections, and an edit in one leaves the others alone. ``keep`` stores the chunks and returns them. Raises
    ``PermanentError`` if Milvus cannot store a chunk or the metadata.
    """
    check_metadata(document.metadata)
    pieces = _pieces(document.elements, settings, measure)
    return CutDocument(document.ref, keep(_identified(document.ref.key, pieces)), document.metadata)


def _pieces(elements: Iterable[Element], settings: Settings, measure: Measure) -> Iterator[tuple[Element, str, str]]:
    for _, section in itertools.groupby(elements, key=lambda e: (e.headings, e.page)):
        first = next(section)
        prefix = heading_prefix(first.headings, measure) if settings.embed_heading else ""
        room = measure.capacity - (measure.counter.count([prefix])[0] if prefix else 0)
        whole: Iterable[Element] = itertools.chain([first], section)  # noqa: B031 - the rest of the section
        for text in cut_section(whole, replace(measure, capacity=room), prefix):
            yield first, prefix, text


def heading_prefix(headings: tuple[str, ...], measure: Measure) -> str:
    """Return the text to embed before a chunk's own: its heading path and a line end.

    If the path is too long, the outermost headings are left out first."""
    for first in range(len(headings)):
        prefix = SEPARATOR.join(headings[first:]) + "\n"
        if measure.counter.count([prefix])[0] <= measure.capacity * HEADING_SHARE:
            return prefix
    return ""


def embedded_text(heading: str, text: str, settings: Settings, measure: Measure) -> str:
    """Return the text that was embedded for a chunk, from its heading path and text in the index."""
    headings = tuple(heading.split(SEPARATOR)) if heading else ()
    return (heading_prefix(headings, measure) if settings.embed_heading else "") + text


def cut_section(elements: Iterable[Element], measure: Measure, prefix: str = "") -> Iterator[str]:
    """Yield the texts of a section's chunks, none over the measure's capacity: the chunk's less the prefix.

    The cost and the rank of each unit decide where to cut. Only these are held in memory for the whole section, since
    it may be a file of a million lines. Its texts are spooled meanwhile.
    """
    costs, ranks = array("q"), array("q")

    def noted() -> Iterator[tuple[str, int]]:
        for unit in _units(elements, measure):
            costs.append(unit.cost)
            ranks.append(rank(unit))
            yield unit.text, unit.level

    units = iter(Spool().keep(noted()))
    joined = (
        _joined(list(itertools.islice(units, stop - start))) for start, stop in cut(costs, ranks, measure.capacity)
    )
    return _refit((text for text in joined if text), measure, prefix)


def _units(elements: Iterable[Element], measure: Measure) -> Iterator[Unit]:
    """Yield the units of a section: its elements, or their lines, sentences or words where an element is too long."""
    whole = (Unit(element.text, 0, UNMEASURED) for element in elements if element.text.strip())
    units = _measured(whole, measure)
    for level, finer in ((1, _lines), (2, _sentences), (3, _words)):
        units = _measured(_finer(units, finer, level, measure), measure)
    return units


def _measured(units: Iterable[Unit], measure: Measure) -> Iterator[Unit]:
    """Yield units with their costs, measured in batches: a call takes as long as a hundred words."""
    for some in in_pieces(units, CHARACTERS_AT_ONCE, lambda unit: unit.text):
        costs = iter(measure.costs([unit.text for unit in some if unit.cost == UNMEASURED]))
        for unit in some:
            yield Unit(unit.text, unit.level, next(costs)) if unit.cost == UNMEASURED else unit


def _finer(
    units: Iterable[Unit], finer: Callable[[str, Measure], Iterable[str]], level: int, measure: Measure
) -> Iterator[Unit]:
    """Yield the units that fit as they are, and the parts of the others, unmeasured."""
    for unit in units:
        if unit.cost <= measure.capacity:
            yield unit
            continue
        levels = itertools.chain([unit.level], itertools.repeat(level))
        parts = zip(finer(unit.text, measure), levels, strict=False)
        yield from (Unit(part, part_level, UNMEASURED) for part, part_level in parts)


def _lines(text: str, _measure: Measure) -> Iterator[str]:
    """Yield the lines of ``str.splitlines(keepends=True)``, one at a time."""
    start = 0
    for end in LINE_END.finditer(text):
        yield text[start : end.end()]
        start = end.end()
    if start < len(text):
        yield text[start:]


def _sentences(text: str, _measure: Measure) -> Iterator[str]:
    return (match[0] for match in SENTENCE.finditer(text))


def _words(text: str, measure: Measure) -> Iterator[str]:
    """Yield runs of words, each as long as fits. The splitter sees a long text one window at a time."""
    most = MOST_CHARACTERS * 9 // 10
    splitter, start = measure.counter.splitter(measure.capacity), 0
    while start < len(text):
        window = text[start : start + CHARACTERS_AT_ONCE]
        pieces: list[str] = splitter.chunks(window)
        if start + len(window) < len(text) and len(pieces) > 1:
            pieces.pop()  # the window's end may have cut the last piece short
        for piece in pieces:
            yield from (piece[i : i + most] for i in range(0, len(piece), most))
        start += sum(map(len, pieces)) or len(window)


def _joined(units: Iterable[tuple[str, int]]) -> str:
    """Join the texts of units: a blank line between elements, nothing between the parts of one element."""
    text = "".join(("\n\n" if level == 0 and i else "") + part for i, (part, level) in enumerate(units))
    return text.strip()


def _refit(texts: Iterable[str], measure: Measure, prefix: str) -> Iterator[str]:
    """Yield the texts, and cut those again that cost more tokens, joined or after the prefix, than their units.

    Tokenizers that merge across white space may cause that. The count of what the model would read decides.
    """
    before = measure.counter.count([prefix])[0] if prefix else 0
    for some in in_pieces(texts, CHARACTERS_AT_ONCE):
        costs = measure.costs(some)
        if prefix:
            together = measure.counter.count([prefix + text for text in some])
            costs = [max(cost, both - before) for cost, both in zip(costs, together, strict=True)]
        for text, cost in zip(some, costs, strict=True):
            if cost <= measure.capacity:
                yield text
            else:
                tighter = replace(measure, capacity=max(1, 2 * measure.capacity - cost))
                yield from (part.strip() for part in _words(text, tighter) if part.strip())


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
    """Return the hash that identifies a text or a chunk: 32 hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
