"""The commands for the service's keys."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.options import Json, PipelineName

if TYPE_CHECKING:
    from tasks.ledger.database import Database
    from tasks.ledger.keys import Key

keys = typer.Typer(help="Create, list and revoke the keys of the service.", no_args_is_help=True)
DAY_MS = 86_400_000


@keys.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Who uses the key, for people.")],
    tenant: Annotated[
        str, typer.Option("--tenant", help="Whose objects it may see, where pipelines have tenants.")
    ] = "",
    allow: Annotated[
        list[str] | None, typer.Option("--allow", help="A pipeline that it may use; repeat it. Default: all.")
    ] = None,
    right: Annotated[
        list[str] | None,
        typer.Option("--right", help="search, ask, read, feedback or admin; repeat it. Default: all but admin."),
    ] = None,
    days: Annotated[
        float | None, typer.Option("--days", min=0.001, help="Days until it expires. Default: never.")
    ] = None,
    pipeline: PipelineName = None,
    as_json: Json = False,
) -> None:
    """Create a key and print it. It is shown this once and kept nowhere."""
    from deployments.cli import output
    from tasks.ledger.database import now
    from tasks.ledger.keys import USUAL_RIGHTS, create_key

    ends = now() + int(days * DAY_MS) if days else None
    with ledger_of(pipeline) as ledger:
        key, text = create_key(ledger, name, tenant, allow or (), right or USUAL_RIGHTS, ends)
    if as_json:
        output.as_json({**shown(key), "key": text})
    else:
        output.write(text + "\n")
        output.say(f"this is shown once: the key {key.id} of '{key.name}'. `lockstep keys revoke {key.id}` ends it")


@keys.command("list")
def list_(pipeline: PipelineName = None, as_json: Json = False) -> None:
    """List the keys: who uses them, what they may do, until when, and when they were last used."""
    from deployments.cli import output
    from tasks.ledger.keys import list_keys

    with ledger_of(pipeline) as ledger:
        found = list_keys(ledger)
    if as_json:
        output.as_json({"keys": [shown(key) for key in found]})
    else:
        output.keys_table([shown(key) for key in found])


@keys.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(help="The key's id, as `lockstep keys list` shows it.")],
    pipeline: PipelineName = None,
    as_json: Json = False,
) -> None:
    """Revoke a key for good. The service refuses it within five seconds."""
    from deployments.cli import output
    from tasks.ledger.keys import revoke_key

    with ledger_of(pipeline) as ledger:
        key = revoke_key(ledger, key_id)
    output.as_json(shown(key)) if as_json else output.say(f"the key {key.id} of '{key.name}' is revoked")


def ledger_of(pipeline: str | None) -> Database:
    """Return the ledger of a pipeline, open: it holds the keys."""
    from deployments.cli.session import open_ledger

    return open_ledger(pipeline)[1]


def shown(key: Key) -> dict[str, Any]:
    """Return a key as it is printed; times in UTC."""
    times = {name: at(getattr(key, name)) for name in ("created_at", "expires_at", "used_at", "revoked_at")}
    scope = {"tenant": key.tenant, "pipelines": list(key.pipelines), "rights": list(key.rights)}
    return {"id": key.id, "name": key.name, **scope, **times}


def at(moment: int | None) -> str | None:
    """Return a time in ms since 1970 as ISO 8601; None stays None."""
    return datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="seconds") if moment else None
