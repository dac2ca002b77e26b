"""What cutting a large document takes, in a process of its own: no more than the text itself and some."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.servers import ROOT

CODE = """
import resource
from blocks.embedder import Embedder
from blocks.settings import Settings
from tasks.documents.chunk import Measure, cut_document
from tasks.models import Document, Element, ObjectRef
from tasks.documents.spool import Spool
from tasks.embedding.tokenizer import counter_for
from transformers import AutoTokenizer

name = Embedder().location()
counter = counter_for(AutoTokenizer.from_pretrained(name), 256, name)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def cut(text):
    document = Document(ObjectRef("big.json", "e", 1, 1), (Element(text),))
    return len(cut_document(document, Settings(), Measure(counter, 254), Spool().keep).chunks)

record = '{"id": %d, "says": "the pump of line %d is blue"},\\n'
cut("".join(record % (n, n) for n in range(1000)))
text = "[" + "".join(record % (n, n) for n in range(MANY)) + "]"
before = peak()
print(cut(text), len(text) / 1e6, peak() - before)
"""
MANY = 20_000


@pytest.mark.timeout(300)
def test_a_large_document_is_cut_in_bounded_memory() -> None:
    """When a text was tokenized whole, that took 160 MB for each MB of it."""
    command = [sys.executable, "-c", CODE.replace("MANY", str(MANY))]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    chunks, mb, grown = map(float, done.stdout.splitlines()[-1].split())
    assert chunks > 1000
    assert grown < 40 * mb, f"{grown:.0f} MB for {mb:.1f} MB"
