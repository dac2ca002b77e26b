"""Each module has a stack of its own, so that two of them run side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tests.acceptance.stack import Stack


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A command takes ten seconds to load, and some tests have a dozen."""
    for item in items:
        if item.path.parent.name == "acceptance":
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("home"))
    try:
        stack.run("up")
        yield stack
    finally:
        stack.run("down")
        stack.close()


@pytest.fixture(scope="module")
def bucket(stack: Stack) -> Any:
    state = json.loads((Path(stack.env["LOCKSTEP_HOME"]) / "state.json").read_text())
    return boto3.client(
        "s3",
        endpoint_url=state["records"]["s3"]["url"],
        aws_access_key_id=state["access_key"],
        aws_secret_access_key=state["secret_key"],
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )
