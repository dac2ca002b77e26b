"""Read golden questions: questions whose relevant objects are known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.bucket.errors import MovedOnError, s3_errors
from tasks.errors import MisuseError, PermanentError, why
from tasks.retrieval.question import checked

if TYPE_CHECKING:
    from blocks.s3_source import S3Source

EXPECTED = 'is not a JSON object with "question" and "relevant", a list of keys'


@dataclass(frozen=True, slots=True)
class Golden:
    """A question, and the keys of the objects that answer it. ``relevant`` is empty if no object does.

    ``tenant`` is the tenant of the question, if objects have tenants.
    """

    question: str
    relevant: tuple[str, ...]
    answer: str = ""
    tenant: str = ""


def read_golden(where: str, source: S3Source) -> list[Golden]:
    """Return the golden questions of a file, or of an object ``s3://bucket/key``, read with the settings of ``source``.

    Raises ``MisuseError`` when the file or object cannot be read, and for the first malformed line.
    """
    return parse_golden(_fetched(where, source) if where.startswith("s3://") else _read(where), where)


def parse_golden(text: str, where: str) -> list[Golden]:
    """Return the golden questions of a text, one per line.

    A line is ``{"question", "relevant": [keys], "answer"?, "tenant"?}``.
    """
    lines = enumerate(text.removeprefix("\ufeff").split("\n"), start=1)
    found = [_golden(line, f"{where}, line {number}") for number, line in lines if line.strip()]
    if not any(one.relevant for one in found):
        raise MisuseError(f"{where} has no golden question with a relevant key. Add one.")
    return found


def _golden(line: str, where: str) -> Golden:
    try:
        given = json.loads(line)
        relevant = given["relevant"]
        if not isinstance(relevant, list) or not all(isinstance(key, str) and key for key in relevant):
            raise TypeError(relevant)
        rest = {name: str(given.get(name) or "") for name in ("answer", "tenant")}
        return Golden(checked(given["question"]), tuple(dict.fromkeys(relevant)), **rest)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MisuseError(f"{where} {EXPECTED}: {line[:80]}") from error
    except MisuseError as error:
        raise MisuseError(f"{where}: {error}") from error


def _read(where: str) -> str:
    try:
        return Path(where).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MisuseError(f"the golden questions in {where} cannot be read: {why(error)}.") from error


def _fetched(where: str, source: S3Source) -> str:
    bucket, _, key = where.removeprefix("s3://").partition("/")
    if not (bucket and key):
        raise MisuseError(f"golden questions in a bucket need an address like s3://BUCKET/KEY, not {where}.")
    try:
        with s3_errors(source.model_copy(update={"bucket": bucket}), one_object=True):
            client = source.get_client()
            return client.get_object(Bucket=bucket, Key=key)["Body"].read().decode()
    except (MovedOnError, PermanentError, UnicodeDecodeError) as error:
        raise MisuseError(f"the golden questions in {where} cannot be read: {error}.") from error


def check_known(questions: Sequence[Golden], known: set[str], where: str, collection: str) -> None:
    """Raise ``MisuseError`` for the first question with a key that the generation does not hold."""
    for one in questions:
        for key in one.relevant:
            if key not in known:
                raise MisuseError(
                    f"{where}: '{key}', which should answer {one.question!r}, is not in {collection}. Correct the "
                    "line, sync the object, or leave such keys out with --ignore-missing."
                )


def only_known(questions: Sequence[Golden], known: set[str]) -> list[Golden]:
    """Return the questions with only known keys. Drop questions that lose all their keys."""
    kept = [replace(one, relevant=tuple(key for key in one.relevant if key in known)) for one in questions]
    return [new for new, old in zip(kept, questions, strict=True) if new.relevant or not old.relevant]


def keys_of(questions: Sequence[Golden]) -> list[str]:
    """Return all keys of the questions, sorted."""
    return sorted({key for one in questions for key in one.relevant})
