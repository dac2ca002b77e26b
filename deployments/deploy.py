"""Deploy prefect.yaml and register its blocks, each only if it has changed."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound

from blocks.pipeline import Pipeline
from deployments.endpoints import Endpoints
from deployments.environment import Environment, inherit, prefect_environment
from deployments.register import describe, deviations, merged, register_types, save, saved
from deployments.state import exclusive, load, replace
from tasks.bucket.identity import Source, from_row, source_of
from tasks.errors import LockstepError, PartError, SourceError
from tasks.ledger.database import Database
from tasks.ledger.generations import generations, recorded, recorded_source

PREFECT_YAML = Path(__file__).parent.parent / "prefect.yaml"
FLOWS = ("sync", "ask", "audit", "rebuild", "promote", "rollback", "evaluate", "collect-garbage")
DEPLOY_SECONDS = 180


def ensure_registered(env: Environment, here: Endpoints, accept_source: bool = False) -> str:
    """Save the pipeline that the environment describes, if the environment has changed. Return its name.

    Changes made in the Prefect UI stay until the environment changes. Raises ``SourceError`` when the index holds
    another bucket, unless ``accept_source`` is set.
    """
    pipeline = describe(env, here)
    name = here.pipeline
    mark = _mark(_revealed(pipeline))
    if _remembered(env).get(f"pipeline {name}") != mark or not _has_block(name):
        register_types()
        named = _named(env)
        before = _no_longer_named(env, name)
        if not accept_source and (old := saved(name)):
            check_move(old, merged(pipeline, name, before))
        save(pipeline, name, no_longer_named=before)
        for what, text in zip(_remembered_of(name), (" ".join(sorted(named)), mark), strict=True):
            _remember(env, what, text)
    return name


@dataclass(frozen=True, slots=True)
class Before:
    """A pipeline as it was saved before a command, with this home's entries about it."""

    name: str
    pipeline: Pipeline
    remembered: dict[str, str]


def as_it_was(env: Environment, name: str) -> Before | None:
    """Return the saved pipeline, so that it can be restored; None if there is none."""
    found = saved(name)
    remembered = _remembered(env)
    return Before(name, found, {what: remembered.get(what, "") for what in _remembered_of(name)}) if found else None


@contextmanager
def put_back_unless_taken(env: Environment, before: Before | None, say: Callable[[str], None]) -> Iterator[None]:
    """Restore a pipeline that this command gave another bucket, if the command fails before the index is that bucket's.

    A mistyped prefix may come with a consent that was meant for another one. The sync then stops before it deletes,
    and the next sync must find the old pipeline.
    """
    ours = saved(before.name) if before else None
    try:
        yield
    except BaseException:
        if before and ours and not _same_place(ours, before.pipeline) and not _live_holds(ours):
            now = saved(before.name)
            if now and _same_place(now, ours):  # another command may have saved the pipeline since
                save(before.pipeline, before.name)
                for what, mark in before.remembered.items():
                    _remember(env, what, mark)
                was = source_of(before.pipeline.source)
                say(f"The pipeline '{before.name}' is the one of {was} again, as before.")
        raise


def _same_place(one: Pipeline, other: Pipeline) -> bool:
    return source_of(one.source).place == source_of(other.source).place


def _live_holds(pipeline: Pipeline) -> bool:
    """Return whether the live generation holds this pipeline's bucket, by the ledger."""
    with suppress(LockstepError), Database(pipeline.ledger) as ledger:
        live = next((one for one in generations(ledger, pipeline.alias) if one.settled), None)
        holds = from_row(recorded_source(ledger, live.collection)) if live else None
        return holds is not None and holds.place == source_of(pipeline.source).place
    return False


def as_saved(env: Environment, here: Endpoints, say: Callable[[str], None]) -> str:
    """Return the name of the environment's pipeline. Report where the saved pipeline differs from the environment."""
    name, pipeline = here.pipeline, describe(env, here)
    if _remembered(env).get(f"pipeline {name}") == _mark(_revealed(pipeline)):
        return name
    if (old := saved(name)) and (found := deviations(merged(pipeline, name, _no_longer_named(env, name)), old)):
        say(f"the environment differs from the saved pipeline '{name}', which is used: {'; '.join(found)}.")
        say("Run `lockstep up` to save the environment's settings.")
    return name


def check_move(old: Pipeline, new: Pipeline) -> None:
    """Raise ``SourceError`` if the generations of a saved pipeline hold another bucket than the new pipeline names.

    If the ledger does not answer, nothing is raised: the sync checks again.
    """
    mine = source_of(new.source)
    if _same_place(old, new):
        return
    known: list[Source | None] = []
    with suppress(LockstepError), Database(old.ledger) as ledger:
        known = [from_row(one.source) for one in recorded(ledger, old.alias).values() if one.source]
    if known and not any(one and one.place == mine.place for one in known):
        raise SourceError(
            f"'{old.alias}' is the index of {source_of(old.source)}, but the environment names {mine}. Nothing was "
            "saved. Set BUCKET, PREFIX and AWS_ENDPOINT_URL back. For a separate index, set COLLECTION_NAME to another "
            "name. If the bucket was moved or renamed, `lockstep sync --accept-source` continues with it."
        )


def _remembered_of(name: str) -> tuple[str, str]:
    """Return the keys in registered.json of a pipeline's named settings and of its saved state."""
    return f"named {name}", f"pipeline {name}"


def _named(env: Environment) -> set[str]:
    return {*env.settings_overrides, *(["model_name"] if env.names_a_model else [])}


def _no_longer_named(env: Environment, name: str) -> set[str]:
    return set(_remembered(env).get(f"named {name}", "").split()) - _named(env)


def ensure_deployed(env: Environment, name: str, report: Callable[[str], None]) -> None:
    """Run `prefect deploy --all`, if prefect.yaml or its variables have changed since the last deployment.

    Raises ``PartError`` with the last lines of Prefect's output when that fails.
    """
    variables = {**prefect_environment(env, load(env.home)), "PIPELINE": name}
    filled = [
        PREFECT_YAML.read_text(),
        *(variables[key] for key in ("PIPELINE", "BUCKET", "PREFIX", "PREFECT_API_URL")),
    ]
    mark = _mark(json.dumps(filled))
    if _remembered(env).get(f"deployments {name}") == mark and _has_deployments(name):
        report("deployments: unchanged")
        return
    try:
        done = subprocess.run(
            ["prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(PREFECT_YAML)],
            env=inherit(variables),
            cwd=PREFECT_YAML.parent,
            capture_output=True,
            text=True,
            timeout=DEPLOY_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise PartError(
            f"Prefect: deploying {PREFECT_YAML} took longer than {DEPLOY_SECONDS} s. Check the Prefect server's log, "
            "then run `lockstep up` again."
        ) from error
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise PartError(f"Prefect: deploying {PREFECT_YAML} failed. The last lines of its output:\n{last}")
    _remember(env, f"deployments {name}", mark)
    report(f"deployments: {', '.join(f'{flow}/{name}' for flow in FLOWS)}")


def _has_deployments(name: str) -> bool:
    with get_client(sync_client=True) as client:
        try:
            return all(client.read_deployment_by_name(f"{flow}/{name}") for flow in FLOWS)
        except ObjectNotFound:
            return False


def _has_block(name: str) -> bool:
    with get_client(sync_client=True) as client:
        try:
            return bool(client.read_block_document_by_name(name, Pipeline.get_block_type_slug()))
        except ObjectNotFound:
            return False


def _revealed(pipeline: Pipeline) -> str:
    """Return the pipeline as text, secrets included, for hashing."""
    return json.dumps(pipeline.model_dump(mode="json", context={"include_secrets": True}), sort_keys=True)


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _remembered(env: Environment) -> dict[str, str]:
    path = env.home / "registered.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def _remember(env: Environment, what: str, mark: str) -> None:
    with exclusive(env.home, lambda _line: None, lock="registered.lock"):
        replace(env.home / "registered.json", json.dumps({**_remembered(env), what: mark}, indent=1))
