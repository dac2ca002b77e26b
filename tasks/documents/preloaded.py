"""Modules that the fork server loads once, so that each forked parsing process is ready at once.

Making the tokenizer takes 0.4 s, and most syncs parse a file or two.
"""

from __future__ import annotations

import unstructured.partition.md  # noqa: F401 - the parser of most documents

from tasks.documents.parse import use_plain_tokenizer

use_plain_tokenizer()
