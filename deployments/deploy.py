"""Deploy prefect.yaml, and register the blocks it needs, when either has changed."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound

from blocks.pipeline import Pipeline
from deployments.environment import Environment, inherit, prefect_environment
from deployments.parts import Endpoints
from deployments.register import describe, register_types, save
from deployments.state import load
from tasks.errors import PartError

PREFECT_YAML = Path(__file__).parent.parent / "prefect.yaml"
FLOWS = ("sync", "ask", "audit", "rebuild", "promote", "rollback", "evaluate", "collect-garbage")
DEPLOY_SECONDS = 180


def ensure_registered(env: Environment, here: Endpoints) -> str:
    """Save the pipeline that the environment describes, if it is not what was saved last; returns its name.

    What somebody changed in the Prefect UI stays until the environment changes.
    """
    pipeline = describe(env, here)
    name = here.pipeline
    mark = _mark(_revealed(pipeline))
    if _remembered(env).get(f"pipeline {name}") != mark or not _has_block(name):
        register_types()
        named = {*env.settings_overrides, *(["model_name"] if env.names_a_model else [])}
        before = set(_remembered(env).get(f"named {name}", "").split())
        save(pipeline, name, no_longer_named=before - named)
        _remember(env, f"named {name}", " ".join(sorted(named)))
        _remember(env, f"pipeline {name}", mark)
    return name


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
    path = env.home / "registered.json"
    written = path.with_suffix(".new")
    written.write_text(json.dumps({**_remembered(env), what: mark}, indent=1))
    written.replace(path)
