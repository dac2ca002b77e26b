"""Limit a question to a tenant and a filter.

With `tenants`, the first part of a key is its tenant: acme/handbook.md belongs to acme. Each question names one
tenant. Milvus then searches only that tenant's chunks, so nothing of another tenant is scored or cited.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.errors import MisuseError
from tasks.milvus.expressions import literal
from tasks.retrieval.filters import compiled
from tasks.retrieval.question import check_text


@dataclass(frozen=True, slots=True)
class Scope:
    """The objects that a question may see: those of a ``tenant`` that match a ``filter``. Empty means no limit."""

    filter: str = ""
    tenant: str = ""

    def __str__(self) -> str:
        """Return the scope in words; empty for everything."""
        named = (("the tenant", self.tenant), ("the filter", self.filter))
        return " and ".join(f"{what} {value}" for what, value in named if value)

    def condition(self, tenants: bool) -> str:
        """Return the scope as a Milvus expression. ``tenants`` says whether the generation's objects have tenants.

        Raises ``MisuseError`` for a malformed filter, a missing tenant, and a tenant where there are none.
        """
        where = compiled(self.filter)
        check_text("the tenant", self.tenant)
        if tenants and not self.tenant:
            raise MisuseError("the objects of this index have tenants. Name the question's tenant with --tenant.")
        if self.tenant and not tenants:
            raise MisuseError(
                "the objects of this index have no tenants. Ask without --tenant, or set LOCKSTEP_TENANTS=true and "
                "run `lockstep rebuild`."
            )
        own = f"tenant == {literal(self.tenant)}" if tenants else ""
        return f"({own}) and ({where})" if own and where else own or where


EVERYTHING = Scope()


def nothing_found(collection: str, scope: Scope) -> str:
    """Return why a question found nothing, and what to do."""
    if str(scope):
        return f"{collection} has no chunks for {scope}. Ask without it to see which keys there are."
    return f"{collection} has no chunks. If it should have some, run `lockstep sync`."
