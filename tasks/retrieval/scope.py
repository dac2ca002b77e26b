"""The scope of a question: its tenant and its filter.

With `tenants`, the first part of a key is its tenant: acme/handbook.md belongs to acme. Each question is asked for
one tenant, and Milvus is asked for that tenant's chunks alone: nothing of another's is searched, scored or cited.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.errors import MisuseError
from tasks.milvus.expressions import literal
from tasks.retrieval.filters import compiled
from tasks.retrieval.question import check_text


@dataclass(frozen=True, slots=True)
class Scope:
    """The objects that a question may see: those of a ``tenant`` that pass a ``filter``."""

    filter: str = ""
    tenant: str = ""

    def __str__(self) -> str:
        """Return the scope in words; an empty text if it is everything."""
        named = (("the tenant", self.tenant), ("the filter", self.filter))
        return " and ".join(f"{what} {value}" for what, value in named if value)

    def condition(self, tenants: bool) -> str:
        """Return the scope as an expression of Milvus, for a generation whose objects have tenants or have none.

        Raises ``MisuseError`` for a filter that cannot be read, for a tenant that is missing, and for one too many.
        """
        where = compiled(self.filter)
        check_text("the tenant", self.tenant)
        if tenants and not self.tenant:
            raise MisuseError("the objects of this index have tenants, and a question is of one: name it (--tenant).")
        if self.tenant and not tenants:
            raise MisuseError(
                "the objects of this index have no tenants. Ask without --tenant, or set LOCKSTEP_TENANTS=true and "
                "run `lockstep rebuild`."
            )
        own = f"tenant == {literal(self.tenant)}" if tenants else ""
        return f"({own}) and ({where})" if own and where else own or where


EVERYTHING = Scope()


def nothing_found(collection: str, scope: Scope) -> str:
    """Return why a question found nothing at all, and what to do."""
    if str(scope):
        return f"nothing in {collection} is of {scope}: ask without it to see which keys there are"
    return f"nothing at all was found in {collection}: if it should hold something, run `lockstep sync`"
