"""Decode bytes to text: as UTF-8, else by detection, else raise with a reason."""

from __future__ import annotations

import codecs

from tasks.errors import PermanentError

BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
SAMPLE_BYTES = 200_000
MOST_CONTROL_CHARACTERS = 0.05


def decode(data: bytes) -> str:
    """Return the text of ``data`` with line ends as '\\n' and NUL characters removed.

    A byte order mark decides the encoding. Without one, strict UTF-8 is tried, then the encoding that
    charset-normalizer finds. Raises ``PermanentError`` if none fits or the result is not text.
    """
    text = _decoded(data)
    control = sum(1 for c in text[:SAMPLE_BYTES] if c < " " and c not in "\t\n\r\f\v\x00\x1b")
    if control > MOST_CONTROL_CHARACTERS * max(1, min(len(text), SAMPLE_BYTES)):
        raise PermanentError("the content is binary, not text")
    return text.replace("\x00", "").replace("\r\n", "\n").replace("\r", "\n")


def _decoded(data: bytes) -> str:
    for mark, encoding in BOMS:
        if data.startswith(mark):
            try:
                return data.decode(encoding)
            except UnicodeDecodeError as error:
                raise PermanentError(
                    f"the file is marked as {encoding}, but byte {error.start} is not valid in it"
                ) from error
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        return _detected(data, error)


def _mostly_utf8(data: bytes) -> bool:
    """Return whether most non-ASCII characters are UTF-8. In any other encoding they would all be garbled."""
    text = data.decode("utf-8", "replace")
    whole = sum(1 for c in text if c > "\x7f" and c != "\ufffd")
    return whole > text.count("\ufffd")


def _detected(data: bytes, cause: UnicodeDecodeError) -> str:
    from charset_normalizer import from_bytes

    if _mostly_utf8(data):
        raise PermanentError(
            f"the text is not UTF-8 (byte {cause.start}), though the rest of it is. It is damaged; save it again"
        ) from cause
    # Take whole lines around the first non-ASCII byte, because half a character at an end fits no encoding.
    start = data.rfind(b"\n", 0, max(0, cause.start - SAMPLE_BYTES // 2)) + 1
    stop = data.rfind(b"\n", start, start + SAMPLE_BYTES) + 1
    sample = data[start : stop if stop > cause.start else start + SAMPLE_BYTES]
    best = from_bytes(sample).best() if data.count(b"\x00") < len(data) / 10 else None
    if best is not None:
        try:
            return data.decode(best.encoding)
        except UnicodeDecodeError:
            pass  # the sample fitted, but the rest did not. The reason below names the first bad byte
    raise PermanentError(
        f"the text is not UTF-8 (byte {cause.start}) and no other encoding fits; save it as UTF-8"
    ) from cause
