"""The options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from tasks.retrieval.scope import Scope

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show Prefect's log on stderr too.")]
PipelineName = Annotated[
    str | None, typer.Option("--pipeline", help="Name of a saved Pipeline block; default: the environment's.")
]
TopK = Annotated[
    int | None, typer.Option("--top-k", min=1, max=100, help="How many chunks to find; default: the pipeline's.")
]
Mode = Annotated[
    Literal["auto", "dense", "hybrid", "lexical"] | None,
    typer.Option("--mode", help="The search mode; default: the pipeline's."),
]
Filter = Annotated[
    str,
    typer.Option(
        "--filter", help='Search only matches: prefix=guides/ and page<=3, metadata.team="infra", key in (a, b), …'
    ),
]
Tenant = Annotated[str, typer.Option("--tenant", help="The tenant whose objects may answer.")]

AllowDeletions = Annotated[
    bool,
    typer.Option("--allow-deletions", help="Delete everything that is gone from the bucket, however much, once."),
]
AcceptSource = Annotated[
    bool,
    typer.Option(
        "--accept-source", help="Accept a bucket, prefix, address or ledger that differs from the generation's."
    ),
]


def scope_of(only: str, tenant: str) -> Scope:
    """Return the scope of the options. Raises ``MisuseError`` for a malformed filter, before anything is loaded."""
    from tasks.retrieval.filters import compiled
    from tasks.retrieval.scope import Scope

    compiled(only)
    return Scope(only, tenant)
