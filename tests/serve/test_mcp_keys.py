"""Assistants see what their key sees, and learn nothing of anything else."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError

from deployments.server.access.links import Passage
from tasks.ledger.database import Database
from tasks.ledger.keys import create_key
from tasks.pipelines import load_pipeline
from tests.serve.conftest import Service, serving
from tests.support.mcp_clients import ERAS, call, opened, said, talk
from tests.support.pipelines import pipeline_maker
from tests.support.servers import Server, new_bucket, sqlite_url

VAULT = "Which word opens the vault?"
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
ACCEPT = {"accept": "application/json, text/event-stream", "content-type": "application/json"}


@pytest.fixture(params=ERAS)
def era(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@dataclass(frozen=True)
class Tenants:
    """A service over an index of two tenants, and the text of each key."""

    service: Service
    name: str
    other: str
    acme: str
    globex: str
    narrow: str
    searcher: str
    everyone: str


@pytest.fixture(scope="module")
def tenants(
    prefect_api: None, s3_server: Server, milvus_lite: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Tenants]:
    from flows.sync import sync

    bucket = new_bucket(s3_server)
    url = sqlite_url(tmp_path_factory.mktemp("ledger"))
    bucket.put("acme/manual.txt", "The filter of the pump of acme must be replaced every 400 hours.")
    bucket.put("globex/vault.txt", "The vault of globex opens with the word rosebud.")
    bucket.put("globex/broken.docx", b"this is no document")
    own = f"m{uuid.uuid4().hex[:8]}"
    make = pipeline_maker(bucket, s3_server.url, milvus_lite.url, url)
    name = make(name=own, alias=own, tenants=True, min_score=-1.0, cache_seconds=0.0)
    sync(name)
    other = make(name=f"{own}-other", alias=own, tenants=True, min_score=-1.0)
    with Database(load_pipeline(name).ledger) as ledger:
        keys = {
            "acme": create_key(ledger, "acme's assistant", "acme")[1],
            "globex": create_key(ledger, "globex' assistant", "globex")[1],
            "narrow": create_key(ledger, "one pipeline", "acme", [other])[1],
            "searcher": create_key(ledger, "search only", "acme", rights=["search"])[1],
            "everyone": create_key(ledger, "no tenant")[1],
        }
        with serving(name) as service:
            yield Tenants(service, name, other, **keys)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("key", ["", "lsk_00000000_" + "a" * 43, "nonsense"])
def test_without_a_valid_key_nobody_is_answered(tenants: Tenants, method: str, key: str) -> None:
    headers = {**ACCEPT, **({"authorization": f"Bearer {key}"} if key else {})}
    for path in ("/mcp", "/mcp/"):
        answer = httpx.request(method, f"{tenants.service.url}{path}", content=json.dumps(PING), headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == 'Bearer realm="lockstep"'


def test_a_key_finds_what_is_its_tenants_and_nothing_of_anothers(tenants: Tenants, era: str) -> None:
    url = tenants.service.url
    own = call(url, "search", era, tenants.globex, query=VAULT)
    (result,) = own.structured_content["results"]
    assert "rosebud" in result["text"]
    assert opened(tenants.service, result["url"]) == Passage(tenants.name, result["id"].split("/")[1], "globex")
    assert "rosebud" in said(call(url, "fetch", era, tenants.globex, id=result["id"]))
    assert "rosebud" in said(call(url, "ask", era, tenants.globex, question=VAULT))

    unknown = call(url, "fetch", era, tenants.acme, id=f"{tenants.name}/{'0' * 32}")
    for wanted in (result["id"], result["id"].split("/")[1]):
        foreign = call(url, "fetch", era, tenants.acme, id=wanted)
        assert foreign.is_error
        assert said(foreign).replace(wanted, "") == said(unknown).replace(f"{tenants.name}/{'0' * 32}", "")
    for tool, question in (("search", "query"), ("ask", "question")):
        for filter_ in ("", "prefix=globex/", 'not key="x"'):
            text = said(call(url, tool, era, tenants.acme, **{question: VAULT, "filter": filter_}))
            for word in ("rosebud", "vault.txt", f"{tenants.name}/{result['id'].split('/')[1]}"):
                assert word not in text


def test_a_key_sees_the_state_of_its_tenant_alone(tenants: Tenants) -> None:
    async def work(client: Client) -> Any:
        read = [await client.read_resource(f"lockstep://{end}") for end in (f"pipelines/{tenants.name}", "quarantine")]
        return [json.loads(one.contents[0].text) for one in read]

    state, quarantine = talk(tenants.service.url, work, key=tenants.globex)
    assert (state["objects"], state["quarantined"]) == (1, 1)
    (row,) = quarantine["quarantined"]
    assert row["key"] == "globex/broken.docx"
    state, quarantine = talk(tenants.service.url, work, key=tenants.acme)
    assert (state["objects"], state["quarantined"], quarantine["quarantined"]) == (1, 0, [])


def test_a_key_without_a_tenant_sees_no_state_of_tenants(tenants: Tenants) -> None:
    async def work(client: Client) -> None:
        for end in (f"pipelines/{tenants.name}", "quarantine"):
            with pytest.raises(MCPError, match="have tenants"):
                await client.read_resource(f"lockstep://{end}")

    talk(tenants.service.url, work, key=tenants.everyone)


def test_rights_and_pipelines_are_those_of_the_key(tenants: Tenants) -> None:
    async def work(client: Client) -> Any:
        return await client.list_tools(), await client.list_resources()

    url = tenants.service.url
    tools, resources = talk(url, work, key=tenants.searcher)
    assert ([tool.name for tool in tools.tools], resources.resources) == (["search"], [])
    assert not call(url, "search", key=tenants.searcher, query=VAULT).is_error
    for tool, arguments in (("ask", {"question": VAULT}), ("fetch", {"id": "x"})):
        refused = call(url, tool, key=tenants.searcher, **arguments)
        assert refused.is_error
        assert "has not the right" in said(refused)

    tools, resources = talk(url, work, key=tenants.narrow)
    assert {str(one.uri) for one in resources.resources} == {
        "lockstep://quarantine", f"lockstep://pipelines/{tenants.other}",
        f"lockstep://pipelines/{tenants.other}/quarantine",
    }  # fmt: skip
    described = tools.tools[0].input_schema["properties"]["pipeline"]["description"]
    assert described == f"One of {tenants.other}. Left out: {tenants.other}."
    found = call(url, "search", key=tenants.narrow, query=VAULT)
    assert found.structured_content["pipeline"] == tenants.other
    refused = call(url, "search", key=tenants.narrow, query=VAULT, pipeline=tenants.name)
    missing = call(url, "search", key=tenants.narrow, query=VAULT, pipeline="nobody")
    assert said(refused).replace(tenants.name, "nobody") == said(missing)
