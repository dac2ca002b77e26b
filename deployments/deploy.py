"""Deploy prefect.yaml, and register the blocks it needs, when either has changed."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from contextlib import suppress
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
from tasks.ledger.generations import recorded_sources

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
        _remember(env, f"named {name}", " ".join(sorted(named)))
        _remember(env, f"pipeline {name}", mark)
    return name


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
    if mine.place == source_of(old.source).place:
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
