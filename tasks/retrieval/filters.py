"""Parse a filter and translate it to a Milvus expression.

    prefix=guides/ and page<=3
    metadata.team="infra" or not (heading^="Appendix" or key in (a.md, b.md))
    last_modified>=2026-01-31

The filter's text never reaches Milvus: fields come from a list, and values become literals. So no value can widen
a filter.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tasks.errors import MisuseError
from tasks.milvus.expressions import literal, starting_with
from tasks.retrieval.question import check_text

if TYPE_CHECKING:
    from pyparsing import ParserElement

LONGEST = 10_000
DEEPEST = 50
NESTING = re.compile(r"\(|\bnot\b", re.IGNORECASE)
"""Parts that nest. Each level costs some stack, in this parser and in the server's."""
FIELD = re.compile(r"(?!(?:and|or|not)\b)(metadata\.[\w.-]++|[a-z_]++)", re.IGNORECASE)
BARE = re.compile(r"[^\s()\"'=<>!^,]++")
NUMBER = re.compile(r"[+-]?[0-9]{1,9}")
EQUAL, ORDERED, START = ("=", "!="), ("<", "<=", ">", ">="), ("^=",)
OPERATORS = {
    "prefix": ("=",),
    "key": (*EQUAL, *START, "in"),
    "heading": (*EQUAL, *START, "in"),
    "page": (*EQUAL, *ORDERED, "in"),
    "last_modified": ORDERED,
    "metadata": (*EQUAL, *ORDERED, *START, "in"),
}
"""The operators that each field allows."""
HINT = 'Examples: prefix=guides/ and page<=3, metadata.team="infra", last_modified>=2026-01-31.'


def compiled(text: str) -> str:
    """Return a filter as a Milvus expression; empty for an empty filter.

    Raises ``MisuseError`` that says where the filter is malformed, or which operators a field allows.
    """
    from pyparsing import ParseBaseException

    if not text.strip():
        return ""
    check_text("the filter", text)
    if len(text) > LONGEST:
        raise MisuseError(f"the filter has {len(text):,} characters; the limit is {LONGEST:,}. Shorten it.")
    if len(NESTING.findall(text)) > DEEPEST:
        raise MisuseError(f"the filter has more than {DEEPEST} parentheses and negations. Simplify it.")
    try:
        with _parsing:
            expression: str = _grammar().parse_string(text, parse_all=True)[0]
    except ParseBaseException as error:
        raise MisuseError(
            f"the filter is malformed from character {error.loc + 1} on: {text[error.loc :][:40] or 'its end'}. {HINT}"
        ) from error
    return expression


_parsing = threading.Lock()
"""pyparsing finds out in its first calls how many arguments an action takes. Two threads at once would make it learn
a wrong number for good."""


@functools.cache
def _grammar() -> ParserElement:
    """Return the grammar: comparisons with and, or, not. Each rule returns its part of the expression."""
    import pyparsing as pp

    word = functools.partial(pp.CaselessKeyword)
    quoted = pp.QuotedString('"', esc_char="\\") | pp.QuotedString("'", esc_char="\\")
    bare = pp.Regex(BARE)
    value = quoted | bare
    field = pp.Regex(FIELD)
    operator = pp.one_of([*EQUAL, *ORDERED, *START])
    several = word("in") + pp.Suppress("(") + pp.Group(pp.DelimitedList(value)) + pp.Suppress(")")
    comparison = (field - (several | operator - value)).set_parse_action(lambda found: _comparison(*found))
    rules: ParserElement = pp.infix_notation(  # type: ignore[no-untyped-call]
        comparison,
        [
            (word("not"), 1, pp.OpAssoc.RIGHT, lambda found: f"(not {found[0][1]})"),
            (word("and"), 2, pp.OpAssoc.LEFT, _joined("and")),
            (word("or"), 2, pp.OpAssoc.LEFT, _joined("or")),
        ],
    )
    return rules.parse_with_tabs()


def _joined(operator: str) -> Callable[[Any], str]:
    return lambda found: "(" + f" {operator} ".join(found[0][::2]) + ")"


def _comparison(field: str, operator: str, value: Any) -> str:
    name, _, entry = field.partition(".")
    allowed = OPERATORS.get(name)
    if allowed is None:
        raise MisuseError(f"a filter has no field '{field}'. Its fields are {', '.join(OPERATORS)}.NAME. {HINT}")
    if operator not in allowed:
        raise MisuseError(f"in a filter, '{field}' does not allow {operator}. It allows {' '.join(allowed)}.")
    values = list(value) if operator == "in" else [value]
    if name == "page":
        return _plain("page", operator, [str(_page(one)) for one in values])
    if name == "last_modified":
        return _plain(name, operator, [str(_moment(values[0]))])
    if name == "metadata":
        return _of_metadata(entry.lower(), operator, values)
    return _of_text("key" if name == "prefix" else name, "^=" if name == "prefix" else operator, values)


def _of_text(field: str, operator: str, values: Sequence[str]) -> str:
    if operator == "^=":
        return starting_with(field, values[0])
    return _plain(field, operator, [literal(one) for one in values])


def _of_metadata(entry: str, operator: str, values: Sequence[str]) -> str:
    """Return a comparison of a metadata entry. An object without the entry never matches, not even `!=`."""
    field = f"metadata[{literal(entry)}]"
    if operator == "in":  # Milvus Lite supports "in" only for columns
        said = f"({' or '.join(_of_text(field, '=', [value]) for value in values)})"
    else:
        said = _of_text(field, operator, values)
    return f"((exists {field}) and {said})"


def _plain(field: str, operator: str, literals: Sequence[str]) -> str:
    """Return a comparison in parentheses, since operator precedence differs between Milvus versions."""
    if operator == "in":
        return f"({field} in [{', '.join(literals)}])"
    return f"({field} {'==' if operator == '=' else operator} {literals[0]})"


def _page(value: str) -> int:
    if not NUMBER.fullmatch(value):
        raise MisuseError(f"page in a filter needs a number of at most nine digits, not '{value[:40]}'.")
    return int(value)


def _moment(value: str) -> int:
    """Return a date, or a date and time, as ms since 1970. Without a time zone it is UTC."""
    try:
        at = datetime.fromisoformat(value)
    except ValueError as error:
        raise MisuseError(f"last_modified in a filter needs a date like 2026-01-31, not '{value}'.") from error
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
