"""Count tokens the way the embedding model does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from tasks.errors import PartError

if TYPE_CHECKING:
    from semantic_text_splitter import TextSplitter
    from tokenizers import Tokenizer

T = TypeVar("T")
SPLITTERS_KEPT = 8
CHARACTERS_AT_ONCE = 1 << 18
"""The limit of one call. The tokenizer's result takes a hundred times the memory of the text."""
OVERHEAD = 16
"""Characters that each text counts for in addition to its own."""


@dataclass(frozen=True, slots=True)
class TokenCounter:
    """A model's own tokenizer, and the model's window in tokens (special tokens not counted)."""

    tokenizer: Tokenizer
    window: int
    _splitters: dict[int, TextSplitter] = field(default_factory=dict, repr=False, compare=False)

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, special tokens not counted."""
        return [
            len(one)
            for some in in_pieces(texts, CHARACTERS_AT_ONCE)
            for one in self.tokenizer.encode_batch_fast(some, add_special_tokens=False)
        ]

    def splitter(self, capacity: int) -> TextSplitter:
        """Return a splitter that cuts a text at words or characters into pieces of up to ``capacity`` tokens."""
        from semantic_text_splitter import TextSplitter

        splitter = self._splitters.get(capacity)
        if splitter is None:  # cached, because a splitter copies the whole tokenizer: 17 ms for MiniLM's
            if len(self._splitters) >= SPLITTERS_KEPT:
                self._splitters.clear()
            splitter = TextSplitter.from_huggingface_tokenizer(self.tokenizer, capacity, trim=False)
            self._splitters[capacity] = splitter
        return splitter


def in_pieces(values: Iterable[T], most: int, text: Callable[[T], str] = str) -> Iterator[list[T]]:
    """Yield values in groups of up to ``most`` characters of text, overhead included, or of one longer value."""
    some: list[T] = []
    size = 0
    for value in values:
        length = len(text(value))
        if some and size + length > most:
            yield some
            some, size = [], 0
        some.append(value)
        size += length + OVERHEAD
    if some:
        yield some


def counter_for(tokenizer: Any, reads: int, name: str) -> TokenCounter:
    """Return the counter of a transformers tokenizer whose model reads ``reads`` tokens.

    A tokenizer.json may switch on truncation and padding. With these every text would seem to fit, so both are switched
    off in a copy. Raises ``PartError`` for a model without a fast tokenizer.
    """
    from tokenizers import Tokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise PartError(f"Embedder: '{name}' has no fast tokenizer, so chunks cannot be measured. Use another model.")
    copy = Tokenizer.from_str(backend.to_str())
    copy.no_truncation()
    copy.no_padding()
    return TokenCounter(copy, reads - tokenizer.num_special_tokens_to_add(pair=False))
