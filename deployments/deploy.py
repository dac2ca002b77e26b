"""Deploy prefect.yaml and register its blocks, each only if it changed."""

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
from tasks.ledger.generations import generations, recorded_source, recorded_sources

PREFECT_YAML = Path(__file__).parent.parent / "prefect.yaml"
FLOWS = ("sync", "ask", "audit", "rebuild", "promote", "rollback", "evaluate", "collect-garbage")
DEPLOY_SECONDS = 180


def ensure_registered(env: Environment, here: Endpoints, accept_source: bool = False) -> str:
    """Save the pipeline that the environment describes, if it is not what was saved last; returns its name.

    What somebody changed in the Prefect UI stays until the environment changes. Raises ``SourceError`` when what is
    indexed is of another bucket, unless that is accepted.
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
    """A pipeline as it was saved before a command, and what this home remembered of it."""

    name: str
    pipeline: Pipeline
    remembered: dict[str, str]


def as_it_was(env: Environment, name: str) -> Before | None:
    """Return the pipeline as it is saved now, to be put back; None when there is none."""
    found = saved(name)
    remembered = _remembered(env)
    return Before(name, found, {what: remembered.get(what, "") for what in _remembered_of(name)}) if found else None


@contextmanager
def put_back_unless_taken(env: Environment, before: Before | None, say: Callable[[str], None]) -> Iterator[None]:
    """Put a pipeline back that this command gave another bucket, when it ends before the index is that bucket's.

    A mistyped prefix may come with the yes that would have been right for another one: the sync stops before it
    deletes, and who syncs next must find the pipeline as it was.
    """
    ours = saved(before.name) if before else None
    try:
        yield
    except BaseException:
        if before and ours and not _same_place(ours, before.pipeline) and not _live_holds(ours):
            now = saved(before.name)
            if now and _same_place(now, ours):  # else somebody else has saved it since
                save(before.pipeline, before.name)
                for what, mark in before.remembered.items():
                    _remember(env, what, mark)
                was = source_of(before.pipeline.source)
                say(f"The pipeline '{before.name}' is that of {was} again, as it was before.")
        raise


def _same_place(one: Pipeline, other: Pipeline) -> bool:
    return source_of(one.source).place == source_of(other.source).place


def _live_holds(pipeline: Pipeline) -> bool:
    """Return whether the ledger says that the generation which is live holds the bucket of this pipeline."""
    with suppress(LockstepError), Database(pipeline.ledger) as ledger:
        live = next((one for one in generations(ledger, pipeline.alias) if one.settled), None)
        holds = from_row(recorded_source(ledger, live.collection)) if live else None
        return holds is not None and holds.place == source_of(pipeline.source).place
    return False


def as_saved(env: Environment, here: Endpoints, say: Callable[[str], None]) -> str:
    """Return the name of the pipeline that the environment names, as it is saved, and say where they differ."""
    name, pipeline = here.pipeline, describe(env, here)
    if _remembered(env).get(f"pipeline {name}") == _mark(_revealed(pipeline)):
        return name
    if (old := saved(name)) and (found := deviations(merged(pipeline, name, _no_longer_named(env, name)), old)):
        say(f"the environment is not what '{name}' was saved with, which is used: {'; '.join(found)}.")
        say("`lockstep up` saves the environment's.")
    return name


def check_move(old: Pipeline, new: Pipeline) -> None:
    """Raise ``SourceError`` when generations of a saved pipeline hold another bucket than it is to be saved with.

    A ledger that cannot say is no hindrance: the sync asks again.
    """
    mine = source_of(new.source)
    if _same_place(old, new):
        return
    known: list[Source | None] = []
    with suppress(LockstepError), Database(old.ledger) as ledger:
        known = [from_row(row) for row in recorded_sources(ledger, old.alias).values() if row]
    if known and not any(one and one.place == mine.place for one in known):
        raise SourceError(
            f"'{old.alias}' is the index of {source_of(old.source)}; the environment says {mine}. Nothing was saved. "
            "Set BUCKET, PREFIX and AWS_ENDPOINT_URL back, or COLLECTION_NAME to another name for an index of its own. "
            "If it was moved or renamed, `lockstep sync --accept-source` goes on with it."
        )


def _remembered_of(name: str) -> tuple[str, str]:
    """Return under what this home remembers which settings were named, and what was saved."""
    return f"named {name}", f"pipeline {name}"


def _named(env: Environment) -> set[str]:
    return {*env.settings_overrides, *(["model_name"] if env.names_a_model else [])}


def _no_longer_named(env: Environment, name: str) -> set[str]:
    return set(_remembered(env).get(f"named {name}", "").split()) - _named(env)


def ensure_deployed(env: Environment, name: str, report: Callable[[str], None]) -> None:
    """Run `prefect deploy --all`, if prefect.yaml or what it is filled with is not what was deployed last.

    Raises ``PartError`` with the last lines of what Prefect said when that fails.
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
            f"Prefect: deploying {PREFECT_YAML} took longer than {DEPLOY_SECONDS} s. Is the server well? Run it again."
        ) from error
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise PartError(f"Prefect: deploying {PREFECT_YAML} failed. Its last lines:\n{last}")
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
    """Return the pipeline as text with its secrets, to be hashed."""
    return json.dumps(pipeline.model_dump(mode="json", context={"include_secrets": True}), sort_keys=True)


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _remembered(env: Environment) -> dict[str, str]:
    path = env.home / "registered.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def _remember(env: Environment, what: str, mark: str) -> None:
    with exclusive(env.home, lambda _line: None, lock="registered.lock"):
        replace(env.home / "registered.json", json.dumps({**_remembered(env), what: mark}, indent=1))
