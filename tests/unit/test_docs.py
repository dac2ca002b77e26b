"""What the guides say exists, exists."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from blocks.chat_model import ChatModel
from blocks.embedder import Embedder
from blocks.ledger import Ledger
from blocks.milvus_store import MilvusStore
from blocks.pipeline import Pipeline
from blocks.s3_source import S3Source
from blocks.settings import Settings
from deployments.deploy import FLOWS
from deployments.environment import Environment

ROOT = Path(__file__).parents[2]
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()


@pytest.mark.parametrize("kind", [Settings, S3Source, MilvusStore, Embedder, ChatModel, Ledger])
def test_every_field_is_in_the_guide_with_its_description(kind: type) -> None:
    for name, field in kind.model_fields.items():
        if name != "credentials":
            assert re.search(rf"\| `{name}` \|.*{re.escape(field.description)}", CONFIGURATION), name


@pytest.mark.parametrize("kind", [Pipeline, S3Source, MilvusStore, Embedder, ChatModel, Ledger])
def test_every_field_of_a_block_is_described_in_the_ui(kind: type) -> None:
    assert all(field.description for field in kind.model_fields.values())


def test_every_variable_is_in_the_guide_and_in_the_example() -> None:
    example = (ROOT / ".env.example").read_text()
    names = [str(one.validation_alias) for one in Environment.model_fields.values() if one.validation_alias]
    assert {"MILVUS_URI", "BUCKET", "LEDGER_URL"} <= set(names)
    for name in names:
        assert f"`{name}`" in CONFIGURATION, name
        assert name in example or name.startswith("PREFECT_API_"), name


def test_the_files_that_the_readme_names_exist() -> None:
    readme = (ROOT / "README.md").read_text()
    for link in re.findall(r"\]\(([^)#]+)\)", readme):
        assert (ROOT / link).exists(), link
    for name in re.findall(r"\b(\w+\.py)\b", readme):
        assert [*ROOT.glob(f"*/{name}"), *ROOT.glob(f"*/*/{name}")], name


def names_in(path: Path) -> set[str]:
    """What a module defines at its top, and the methods of its classes."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{one.name}" for one in node.body if isinstance(one, ast.FunctionDef)}
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def test_the_functions_that_the_architecture_names_exist() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    named = re.findall(r"`([\w/]+\.py)(?::([\w.]+))?`", page)
    assert len(named) > 30
    for path, name in named:
        assert (ROOT / path).exists(), path
        assert not name or name in names_in(ROOT / path), f"{path}:{name}"
    steps = re.findall(r"^\d+\. (?:.|\n   )*", page, re.MULTILINE)
    assert len(steps) > 20
    for step in steps:
        assert re.search(r"`[\w/]+\.py:[\w.]+`", step), step


def test_the_packages_that_the_architecture_draws_are_all_there_are() -> None:
    picture = (ROOT / "docs" / "architecture.md").read_text().split("```")[1]
    packages = {path.parent.name for path in (ROOT / "tasks").glob("*/__init__.py")}
    drawn = re.findall(r"^  (\w+(?:  \w+)*) {3,}(?:[^│\n]*│  (\w+))?", picture, re.MULTILINE)
    assert packages <= {name for names in drawn for column in names for name in column.split()}


def test_the_pictures_that_the_guides_show_exist() -> None:
    shown = {page: re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text()) for page in (ROOT / "docs").glob("*.md")}
    assert any(shown.values())
    for page, pictures in shown.items():
        for picture in pictures:
            assert (page.parent / picture).exists(), (page.name, picture)


def test_deployments_are_as_promised() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    sync, ask, audit, *others = deployments
    assert sync["schedules"] == [{"slug": "every-5-minutes", "interval": 300, "active": True}]
    assert not any("concurrency_limit" in one for one in deployments), "the server's restart would kill their runs"
    assert sync["triggers"][0]["expect"] == ["s3.object.*"]
    assert sync["triggers"][0]["within"] == sync["triggers"][0]["schedule_after"]
    assert [one["entrypoint"] for one in (sync, ask, audit)] == [
        "flows.sync.sync",
        "flows.ask.ask",
        "flows.audit.audit",
    ]
    assert [one["entrypoint"] for one in others] == [
        "flows.rebuild.rebuild",
        "flows.promote.promote",
        "flows.rollback.rollback",
        "flows.evaluate.evaluate",
        "flows.collect_garbage.collect_garbage",
    ]
    assert [one["entrypoint"].rsplit(".", 1)[1].replace("_", "-") for one in deployments] == list(FLOWS)
    assert audit["schedules"] == [{"slug": "nightly", "cron": "0 3 * * *", "active": True}]
    assert audit["parameters"]["sync_first"] is True


def test_every_dependency_is_bounded_and_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().split()}
    for requirement in (one for group in groups for one in group):
        assert ">=" in requirement, requirement
        assert "<" in requirement, requirement
        name = re.split(r"[\[>=<]", requirement)[0].lower()
        assert name in pinned or name == "prefect-ray", requirement
    assert "torchvision" not in pinned


def test_the_json_that_the_guide_to_notifications_shows_is_json() -> None:
    guide = (ROOT / "docs" / "notifications.md").read_text()
    shown = [*re.findall(r"'(\{.*\})'", guide), *re.findall(r'^ +(\{"VisibilityTimeout.*?"\})$', guide, re.M | re.S)]
    assert len(shown) == 7
    read = [json.loads(one) for one in shown]
    assert json.loads(read[-1]["Policy"])["Statement"][0]["Principal"] == {"Service": "s3.amazonaws.com"}
