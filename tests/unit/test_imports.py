"""What an import brings with it: each in a process of its own, as the command starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("module", "not_wanted"),
    [
        # Prefect reads its settings when it is imported: the command has to set the environment first.
        ("deployments.cli.main", ("prefect", "torch", "pymilvus", "unstructured", "transformers")),
        ("deployments.local.stack", ("prefect", "torch", "pymilvus", "unstructured", "transformers")),
        ("deployments.cli.output", ("prefect", "torch", "pymilvus", "unstructured", "transformers")),
        ("deployments.cli.questions_file", ("prefect", "torch", "pymilvus", "unstructured", "transformers")),
        ("deployments.cli.session", ("prefect", "torch", "pymilvus", "unstructured", "transformers")),
        # Parsing processes have a memory limit and start while the first file waits.
        ("tasks.documents.parse", ("prefect", "torch", "pymilvus", "boto3", "transformers", "pandas")),
        ("tasks.documents.pdf", ("prefect", "torch", "pymilvus", "boto3", "transformers", "pandas")),
    ],
)
def test_an_import_brings_no_heavy_library(module: str, not_wanted: tuple[str, ...]) -> None:
    assert run(f"import sys, {module}; print(*[name for name in {not_wanted} if name in sys.modules])") == ""


PARSING_PROCESS = """
from tasks.documents.sandbox import Isolated
with Isolated(1, 60.0, 1024) as isolated:
    loaded = "[name for name in ('prefect', 'torch', 'pymilvus') if __import__('sys').modules.get(name)]"
    print(*isolated.result(isolated.start(eval, loaded)))
"""


def test_a_parsing_process_holds_neither_prefect_nor_torch() -> None:
    assert run(PARSING_PROCESS) == ""


LOGGING = """
import logging, logging.config
configure = logging.config.dictConfig
lines = []
class Kept(logging.Handler):
    closed = False
    def emit(self, record): lines.append(record.getMessage())
    def close(self): self.closed = True
handler, own = Kept(), Kept()
logging.getLogger().addHandler(handler)
logging.getLogger("flow").addHandler(own)
logging.getLogger("flow").setLevel(logging.INFO)
from blocks.pymilvus_import import load_pymilvus
pymilvus = load_pymilvus()
assert pymilvus is load_pymilvus() and hasattr(pymilvus, "MilvusClient")
assert logging.config.dictConfig is configure
assert handler in logging.getLogger().handlers and own in logging.getLogger("flow").handlers
assert not handler.closed and not own.closed and not logging.getLogger("flow").disabled
logging.getLogger("flow").info("still here")
assert lines == ["still here", "still here"], lines
print("ok")
"""


def test_pymilvus_leaves_logging_as_it_was() -> None:
    assert run(LOGGING) == "ok"


LEAN = """
import sys
from deployments.server.lean import leave_out
leave_out()
leave_out()
from blocks.embedder import Embedder
from tasks.embedding.model import load_model
from sentence_transformers import CrossEncoder
assert len(load_model(Embedder()).encode_question("How?")) == 384
assert [name for name in sys.modules if name.startswith(("sklearn.", "pyarrow."))] == ["sklearn.metrics"]
try:
    sys.modules["sklearn.metrics"].ndcg_score([1], [1])
except ImportError as error:
    print(error)
"""


def test_the_service_embeds_without_the_libraries_that_it_leaves_out() -> None:
    assert run(LEAN) == "the service leaves sklearn.metrics out, and something calls sklearn.metrics.ndcg_score"
