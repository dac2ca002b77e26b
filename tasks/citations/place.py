"""Say where words of a passage stand: in which chunk, from where to where."""

from __future__ import annotations

from tasks.models import Citation, Hit, Part


def cited_at(passage: Hit, n: int, span: tuple[int, int]) -> Citation:
    """Return the verified citation of what stands at ``span``, in characters of a passage, numbered ``n``.

    Words that begin in one chunk and end in the next are cited from the one that holds more of them.
    """
    part = _most(passage, span)
    begin, end = max(span[0], part.begin), min(span[1], part.end)
    return Citation(
        n=n,
        key=passage.key,
        heading=passage.heading,
        page=part.page,
        quote=passage.text[begin:end],
        chunk_id=part.chunk_id,
        outdated=passage.outdated,
        version=passage.etag,
        span=(begin - part.begin, end - part.begin),
    )


def _most(passage: Hit, span: tuple[int, int]) -> Part:
    parts = passage.parts or (Part(passage.chunk_id, passage.page, 0, len(passage.text)),)
    return max(parts, key=lambda part: min(span[1], part.end) - max(span[0], part.begin))
