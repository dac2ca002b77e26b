"""Preload the parsers in the fork server, so that each parsing process can start to parse at once.

Making the tokenizer takes 0.4 s, and most syncs parse only a file or two.
"""

from __future__ import annotations

import unstructured.partition.md  # noqa: F401 - the parser of most documents

from tasks.documents.parse import use_plain_tokenizer

use_plain_tokenizer()
