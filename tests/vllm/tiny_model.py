"""A tiny Llama of random weights that vLLM serves like any other: `python -m tests.vllm.tiny_model FOLDER`.

Its words are noise, on purpose: whatever holds for its answers holds by what checks them, not by a model that behaves.
Some noise is likelier than other: citations, of passages that exist and of some that do not, since they are what is
checked; what says that there is an answer and begins a list, so that an answer under a JSON schema has claims; and what
closes a string or a list, so that it comes to its end.

The guides train the tokenizer, and they change. A token's weights are drawn by its text, so that a reworded sentence
gives the model a few new words, not a new mind.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"
VOCABULARY, HIDDEN, LAYERS, HEADS, CONTEXT = 2000, 128, 2, 2, 4096
SLOW_LAYERS = 30
SEED = 20260
"""For the weights that belong to no token."""
CITATIONS = [f"[{n}]" for n in range(1, 21)]
END, SYSTEM, USER, ASSISTANT = SPECIAL = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
OPENING = '[{"'
RAISED = {OPENING: 6.5, '"': 8.5}
"""By how much two tokens are raised: one begins a list with its first object, one opens and closes strings."""
CLOSING = {'"': 5.0, "}": 4.0, "]": 4.5}
"""The same for other tokens that begin so: they close strings and lists. As the start of a string they are no words."""
YES = {"t": 4.0, "tr": 4.0, "true": 4.0}
"""The same for what begins the "true" of a question that can be answered: noise says "false" often enough."""
CONSTANT = 4.0
"""What every embedding has in dimension 0, so that the head's column for it is a bias: Llama has no other."""


def tokenizer() -> Any:
    """Return a byte-level BPE tokenizer that knows the words of the project's own guides."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(CITATIONS) - 1,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator((path.read_text() for path in sorted(DOCS.glob("*.md"))), trainer)
    made.add_tokens([AddedToken(mark, normalized=False) for mark in (*CITATIONS, OPENING)])
    return made


def likelihood(token: str, text: str, lines: bool) -> float:
    """Return by how much a token's logit is raised; those of the other tokens are spread by about 2."""
    if lines and text == "\n":
        return 6.0
    if token in SPECIAL or not text.strip() or not text.isprintable():
        return -40.0  # an answer goes on until its limit, and blanks between the parts of JSON do not
    if token in CITATIONS:
        return 3.0
    return RAISED.get(token, CLOSING.get(text[0], YES.get(text.strip(), 0.0)))


def rows(tokens: Sequence[str], of: str, std: float) -> Any:
    """Return a row of noise for each token, ``float32 [tokens, HIDDEN]``: a token's own, whatever others there are."""
    import torch

    drawn = []
    for token in tokens:
        seeded = torch.Generator().manual_seed(zlib.crc32(f"{of} {token}".encode()))
        drawn.append(torch.randn(HIDDEN, generator=seeded) * std)
    return torch.stack(drawn)


def weights(made: Any, slow: bool) -> Any:
    """Return the model, its weights drawn with fixed seeds."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(SEED)
    end = made.token_to_id(END)
    config = LlamaConfig(
        vocab_size=made.get_vocab_size(), hidden_size=HIDDEN, intermediate_size=2 * HIDDEN,
        num_hidden_layers=SLOW_LAYERS if slow else LAYERS, num_attention_heads=HEADS, num_key_value_heads=HEADS,
        max_position_embeddings=CONTEXT, initializer_range=0.08, tie_word_embeddings=False, bos_token_id=None,
        eos_token_id=end, pad_token_id=end,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    ids = range(made.get_vocab_size())
    tokens = [(made.id_to_token(one), made.decode([one], skip_special_tokens=False)) for one in ids]
    raised = [likelihood(token, text, lines=slow) for token, text in tokens]
    with torch.no_grad():
        names = [token for token, _ in tokens]
        model.lm_head.weight.copy_(rows(names, "head", 0.2))
        model.model.embed_tokens.weight.copy_(rows(names, "embedding", 1.0))
        model.model.embed_tokens.weight[:, 0] = CONSTANT
        for layer in model.model.layers:
            # Attention to few tokens, not to the mean of all, so that each prompt has an answer of its own.
            layer.self_attn.q_proj.weight.normal_(std=0.3)
            layer.self_attn.k_proj.weight.normal_(std=0.3)
            # Nothing is added to the constant.
            layer.self_attn.o_proj.weight[0] = 0.0
            layer.mlp.down_proj.weight[0] = 0.0
        model.lm_head.weight[:, 0] = torch.tensor(raised) / CONSTANT
    return model


def save(folder: Path, *, slow: bool = False) -> Path:
    """Write the model and its tokenizer into a folder, as vLLM loads them; returns the folder.

    A ``slow`` one writes about 100 tokens a second, in short lines: who listens hears of it soon, and for long.
    """
    made = tokenizer()
    weights(made, slow).save_pretrained(folder)
    made.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": CONTEXT, "eos_token": END, "pad_token": END,
        "chat_template": TEMPLATE, "clean_up_tokenization_spaces": False,
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))
    return folder


if __name__ == "__main__":
    save(Path(sys.argv[1]))
