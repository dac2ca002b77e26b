"""Draw a page of a PDF with a quote marked on it, in a process of its own.

python -m tasks.documents.page_image PDF < ask.json > page.png      {"page": 3, "text": "…", "span": [44, 59]}

A PDF is untrusted, and PDFium is written in C++. So the process has no environment, limits on its memory and its time,
and ends after one page.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import PermanentError

if TYPE_CHECKING:
    from PIL.Image import Image

SECONDS = 15.0
MEMORY_BYTES = 1 << 30
LONGEST_SIDE, WIDTH = 2400, 1240
"""Pixels of the picture: its width as a rule, and the limit for pages of other shapes."""
CONTEXT = (400, 80, 0)
"""Letters before and after a quote that tell it from the same words elsewhere on the page, tried in turn."""
YELLOW = (255, 224, 70)
FAILED = 3

Box = tuple[int, int, int, int]
"""Left, top, right, bottom, in pixels."""


def draw(path: Path, page: int, text: str, span: tuple[int, int] | None) -> bytes:
    """Return page ``page`` (from 1) of a PDF as PNG, with ``text[start:end]`` marked where the page has it.

    ``text`` is the chunk that the quote stands in. Raises ``PermanentError`` when the page cannot be drawn.
    """
    ask = json.dumps({"page": page, "text": text, "span": span}).encode()
    command = [sys.executable, "-m", "tasks.documents.page_image", str(path)]
    root = Path(__file__).parents[2]
    try:
        done = subprocess.run(command, input=ask, capture_output=True, cwd=root, env={}, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise PermanentError(f"drawing the page took more than {SECONDS:g} s") from error
    if done.returncode or not done.stdout:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise PermanentError(f"the page cannot be drawn: {said[-1][:200] if said else f'exit {done.returncode}'}")
    return done.stdout


def letters(text: str) -> tuple[str, list[int]]:
    """Return only the letters and digits of a text, folded, and the position in the text of each.

    Line ends, hyphens at them and all other layout are left out: a page has them where a chunk has not.
    """
    folded: list[str] = []
    origins: list[int] = []
    for position, character in enumerate(text):
        for form in unicodedata.normalize("NFKD", character).casefold():
            if form.isalnum():
                folded.append(form)
                origins.append(position)
    return "".join(folded), origins


def find(page: str, text: str, span: tuple[int, int]) -> tuple[int, int] | None:
    """Return where a page's text has the quote ``text[start:end]``, or None.

    Of several places the one counts whose surroundings are those of the quote in ``text``.
    """
    on_page, origins = letters(page)
    before, quote, after = (letters(part)[0] for part in (text[: span[0]], text[slice(*span)], text[span[1] :]))
    for reach in CONTEXT if quote else ():
        head = before[-reach:] if reach else ""
        for tail in (after[:reach], ""):  # a chunk may end with its page's text, and begin under a heading
            if (at := on_page.find(head + quote + tail)) >= 0:
                begin = at + len(head)
                return origins[begin], origins[begin + len(quote) - 1] + 1
    return None


def lines(boxes: list[Box]) -> list[Box]:
    """Join the boxes of consecutive characters to one box for each line."""
    joined: list[Box] = []
    for box in boxes:
        if joined and _on_one_line(joined[-1], box):
            last = joined[-1]
            joined[-1] = min(last[0], box[0]), min(last[1], box[1]), max(last[2], box[2]), max(last[3], box[3])
        else:
            joined.append(box)
    return joined


def _on_one_line(one: Box, other: Box) -> bool:
    shared = min(one[3], other[3]) - max(one[1], other[1])
    return shared > 0.5 * min(one[3] - one[1], other[3] - other[1])


def png(path: Path, number: int, text: str, span: tuple[int, int] | None) -> bytes:
    """Return what :func:`draw` returns, made in this process. Raises errors of PDFium."""
    import pypdfium2 as pdfium

    document = pdfium.PdfDocument(path)
    page = document[number - 1]
    width, height = page.get_size()
    scale = min(WIDTH / width, LONGEST_SIDE / max(width, height))
    bitmap = page.render(scale=scale)
    image: Image = bitmap.to_pil().convert("RGB")
    marks = _marks(page.get_textpage(), bitmap.get_posconv(page), text, span) if span else []
    _mark(image, marks)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _marks(textpage: Any, places: Any, text: str, span: tuple[int, int]) -> list[Box]:
    from pypdfium2.raw import FPDFText_GetUnicode

    # Character by character: the text that PDFium returns as a whole leaves some out, so its positions would be wrong.
    codes = (FPDFText_GetUnicode(textpage, index) for index in range(textpage.count_chars()))
    place = find("".join(map(chr, codes)), text, span)
    boxes = (_box(textpage, places, index) for index in range(*place or (0, 0)))
    return lines([box for box in boxes if box[0] < box[2] and box[1] < box[3]])  # a line end has no size


def _box(textpage: Any, places: Any, index: int) -> Box:
    left, bottom, right, top = textpage.get_charbox(index, loose=True)
    (x0, y0), (x1, y1) = places.to_bitmap(left, top), places.to_bitmap(right, bottom)
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)


def _mark(image: Image, marks: list[Box]) -> None:
    """Colour the boxes as a highlighter does: what is dark stays readable."""
    from PIL import Image as Images
    from PIL import ImageChops

    for left, top, right, bottom in marks:
        box = max(left - 2, 0), max(top - 1, 0), min(right + 2, image.width), min(bottom + 1, image.height)
        if box[0] < box[2] and box[1] < box[3]:
            part = image.crop(box)
            image.paste(ImageChops.multiply(part, Images.new("RGB", part.size, YELLOW)), box)


def main() -> int:
    """Draw what stdin asks for, within the limits."""
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (int(SECONDS), int(SECONDS)))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    ask = json.load(sys.stdin)
    try:
        picture = png(Path(sys.argv[1]), ask["page"], ask["text"], tuple(ask["span"]) if ask["span"] else None)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the file, there is no picture
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return FAILED
    sys.stdout.buffer.write(picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
