"""The OpenAPI document is true: whatever it lets clients send gets an answer that it describes, and no 5xx."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.serve.conftest import Index, serving

EXAMPLES = int(os.environ.get("LOCKSTEP_API_EXAMPLES", "12"))
"""Requests that are made for each operation; few of them are the same ones in every run."""
FEW = 50
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
TOKEN = "a token of S3 servers"
SAYS_503 = {"/ready", "/readyz"}
"""A 503 is what they are for: another test may have left a pipeline whose Milvus is gone."""
QUICK = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES < FEW, database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


@pytest.mark.timeout(240 if EXAMPLES < FEW else 4 * 3600)
def test_every_answer_is_as_the_document_says(
    index: Index, subtests: pytest.Subtests, record_property: Callable[[str, object], None]
) -> None:
    with serving(index.name, watch_token=TOKEN) as service:
        try_all(service.url, subtests, record_property)


def try_all(url: str, subtests: pytest.Subtests, record_property: Callable[[str, object], None]) -> None:
    document = schemathesis.openapi.from_url(f"{url}/openapi.json")
    tried, cases = set(), 0
    for found in document.get_all_operations():
        operation = found.ok()
        tried.add(f"{operation.method.upper()} {operation.path}")
        with subtests.test(operation.label):

            @QUICK
            @given(case=operation.as_strategy())
            def answered(case: Case) -> None:
                nonlocal cases
                cases += 1
                # Every other one: the answers without the token are described too.
                own = {"x-api-key": TOKEN} if case.path.startswith("/notifications") and cases % 2 else None
                case.call_and_validate(checks=CHECKS[case.path in SAYS_503 :], timeout=60, headers=own)

            answered()
    record_property("tried", f"{cases} requests to {len(tried)} operations")
    assert {"POST /ask", "POST /search", "POST /v1/chat/completions", "GET /passages/{chunk_id}", "GET /state"} <= tried
    assert "POST /notifications/{pipeline}" in tried
