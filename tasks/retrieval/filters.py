"""Parse a filter that a person wrote, and translate it to a Milvus expression.

    prefix=guides/ and page<=3
    metadata.team="infra" or not (heading^="Appendix" or key in (a.md, b.md))
    last_modified>=2026-01-31

The person's text is parsed here and never handed on: fields come from a list, values become literals. So nothing
that stands in a value can widen a filter.
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
"""What may lie inside each other: each costs the parser, and the server's, some of its stack."""
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
"""What a field can be asked."""
HINT = 'Such as: prefix=guides/ and page<=3, or metadata.team="infra", or last_modified>=2026-01-31.'


def compiled(text: str) -> str:
    """Return a filter as an expression of Milvus; empty for an empty one.

    Raises ``MisuseError`` saying where it cannot be read, or what a field cannot be asked.
    """
    from pyparsing import ParseBaseException

    if not text.strip():
        return ""
    check_text("the filter", text)
    if len(text) > LONGEST:
        raise MisuseError(f"the filter has {len(text):,} characters; {LONGEST:,} are the most.")
    if len(NESTING.findall(text)) > DEEPEST:
        raise MisuseError(f"the filter has more than {DEEPEST} parentheses and negations.")
    try:
        with _parsing:
            expression: str = _grammar().parse_string(text, parse_all=True)[0]
    except ParseBaseException as error:
        raise MisuseError(
            f"the filter cannot be read from character {error.loc + 1} on: {text[error.loc :][:40] or 'its end'}. "
            f"{HINT}"
        ) from error
    return expression


_parsing = threading.Lock()
"""pyparsing learns from its first calls how many arguments an action takes: two threads teach it what is wrong for
good."""


@functools.cache
def _grammar() -> ParserElement:
    """Return the grammar: comparisons joined by and, or, not. Each rule returns its part of the expression."""
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
        raise MisuseError(f"a filter cannot ask for '{field}'; it can for {', '.join(OPERATORS)}.NAME. {HINT}")
    if operator not in allowed:
        raise MisuseError(f"'{field}' cannot be asked with {operator} in a filter; it can with {' '.join(allowed)}.")
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
    """An object without the entry is in none of its comparisons, not even in `!=`."""
    field = f"metadata[{literal(entry)}]"
    if operator == "in":  # Milvus Lite has this for columns alone
        said = f"({' or '.join(_of_text(field, '=', [value]) for value in values)})"
    else:
        said = _of_text(field, operator, values)
    return f"((exists {field}) and {said})"


def _plain(field: str, operator: str, literals: Sequence[str]) -> str:
    """In parentheses: servers differ in what binds tighter than a comparison."""
    if operator == "in":
        return f"({field} in [{', '.join(literals)}])"
    return f"({field} {'==' if operator == '=' else operator} {literals[0]})"


def _page(value: str) -> int:
    if not NUMBER.fullmatch(value):
        raise MisuseError(f"page in a filter is a number of at most nine digits, not '{value[:40]}'.")
    return int(value)


def _moment(value: str) -> int:
    """Return a date, or a date and time, as ms since 1970; UTC when it names no zone."""
    try:
        at = datetime.fromisoformat(value)
    except ValueError as error:
        raise MisuseError(f"last_modified in a filter is a date like 2026-01-31, not '{value}'.") from error
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
