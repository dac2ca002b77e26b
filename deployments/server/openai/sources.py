"""The sources of one answer, numbered by their first citation, as chat pages show them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from deployments.server.access.links import PassageUrls
from tasks.models import Citation
from tasks.text.markdown import harmless

MARK = re.compile(r"\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\]")


@dataclass(frozen=True, slots=True)
class Source:
    """A passage that is cited, under its number in the answer; ``citation`` is the first one of it."""

    number: int
    citation: Citation
    url: str

    @property
    def title(self) -> str:
        """Where it stands, for people: key › heading."""
        return " › ".join(part for part in (self.citation.key, self.citation.heading) if part)

    @property
    def id(self) -> str:
        """What tells it from other passages of its file: pages that group by file would shift every number."""
        return f"{self.citation.key}#{self.citation.chunk_id}"

    def data(self) -> dict[str, Any]:
        """Return it as Open WebUI reads a source."""
        one = self.citation
        metadata = {
            "source": self.id, "source_url": self.url, "external": True, "name": self.title, "verified": one.verified,
            "quote": one.quote, "span": list(one.span) if one.span else None, "version": one.version,
        }  # fmt: skip
        if one.page is not None:
            metadata["page"] = one.page - 1  # counted from 0 there
        # It opens `embed_url` in a pane beside the chat. The name stays: `external` keeps the URL from replacing it.
        source = {"id": self.id, "name": self.title, "url": self.url, "embed_url": self.url}
        return {"source": source, "document": [harmless(one.quote)], "metadata": [metadata]}

    def link(self) -> str:
        """Return it as a link in Markdown."""
        return f"[{plain(self.title)}]({self.url})" if self.url else plain(self.title)

    def event(self) -> dict[str, Any]:
        """Return it as an event in a stream."""
        return {"type": "source", "data": self.data()}


class Sources:
    """The sources so far; iterating yields them in order."""

    def __init__(self, urls: PassageUrls) -> None:
        self._urls = urls
        self._numbers: dict[int, int] = {}
        self._sources: list[Source] = []

    def __iter__(self) -> Iterator[Source]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)

    def cited(self, citations: Sequence[Citation]) -> list[Source]:
        """Take in what is cited; returns the sources that are new."""
        before = len(self._sources)
        for one in citations:
            if one.n not in self._numbers:
                self._numbers[one.n] = len(self._sources) + 1
                url = self._urls.of(one.chunk_id, one.span)
                self._sources.append(Source(self._numbers[one.n], one, url))
        return self._sources[before:]

    def number(self, n: int) -> int:
        """Return the number of a passage in this answer."""
        return self._numbers.get(n, n)

    def renumbered(self, text: str) -> str:
        """Return a text with the numbers of this answer in its marks; brackets that cite nothing stay."""

        def renumber(match: re.Match[str]) -> str:
            numbers = [int(n) for n in match[1].split(",")]
            if not all(n in self._numbers for n in numbers):
                return match[0]
            return f"[{', '.join(str(self._numbers[n]) for n in numbers)}]"

        return MARK.sub(renumber, text)

    def annotations(self, text: str) -> list[dict[str, Any]]:
        """Return where a text cites what, as OpenAI says it: ``text[start_index:end_index]`` is a mark."""
        by_number = {source.number: source for source in self._sources}
        found = []
        for match in MARK.finditer(text):
            for n in (int(part) for part in match[1].split(",")):
                if source := by_number.get(n):
                    place = {"start_index": match.start(), "end_index": match.end()}
                    cited = {**place, "title": source.title, "url": source.url}
                    found.append({"type": "url_citation", "url_citation": cited})
        return found

    def as_list(self) -> str:
        """Return the sources as a list behind the text, in Markdown."""
        lines = [f"{one.number}. {one.link()}: “{plain(one.citation.quote)}”" for one in self._sources]
        return "\n\nSources:\n" + "\n".join(lines)


def plain(text: str) -> str:
    """Return a text on one line, in which Markdown finds nothing."""
    return re.sub(r"([\\`*_{}\[\]<>#|!])", r"\\\1", " ".join(text.split()))
