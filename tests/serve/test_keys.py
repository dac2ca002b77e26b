"""Keys: without one nobody is answered once there is one, and a key sees its tenant and its pipelines alone."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from deployments.server.access.rates import Rates
from tasks.ledger.database import Database, now
from tasks.ledger.keys import create_key, revoke_key
from tasks.metrics import REGISTRY
from tasks.pipelines import load_pipeline
from tests.serve.conftest import QUESTION, Index, Service, eventually, process, serving
from tests.support.pipelines import pipeline_maker
from tests.support.servers import Server, free_port, new_bucket, sqlite_url

SECRET = "The vault of globex opens with the word rosebud."


@dataclass(frozen=True)
class Keyed:
    """A service over an index of two tenants, its ledger, and the text of each key."""

    service: Service
    ledger: Database
    name: str
    other: str
    acme: str
    globex: str
    narrow: str
    searcher: str

    def client(self, key: str) -> httpx.Client:
        return self.service.client(headers={"authorization": f"Bearer {key}"})


@pytest.fixture(scope="module")
def keyed(
    prefect_api: None, s3_server: Server, milvus_lite: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Keyed]:
    from flows.sync import sync

    bucket = new_bucket(s3_server)
    url = sqlite_url(tmp_path_factory.mktemp("ledger"))
    bucket.put("acme/manual.txt", "The filter of the pump of acme must be replaced every 400 hours.")
    bucket.put("globex/vault.txt", SECRET)
    own = f"k{uuid.uuid4().hex[:8]}"
    make = pipeline_maker(bucket, s3_server.url, milvus_lite.url, url)
    name = make(name=own, alias=own, tenants=True, min_score=-1.0, cache_seconds=0.0)
    sync(name)
    other = make(name=f"{own}-other", alias=own, tenants=True, min_score=-1.0)
    with Database(load_pipeline(name).ledger) as ledger:
        keys = {
            "acme": create_key(ledger, "acme's page", "acme")[1],
            "globex": create_key(ledger, "globex' page", "globex")[1],
            "narrow": create_key(ledger, "one pipeline", "acme", [other])[1],
            "searcher": create_key(ledger, "search only", "acme", rights=["search"])[1],
        }
        with serving(name) as service:
            yield Keyed(service, ledger, name, other, **keys)


ROUTES: dict[str, tuple[str, dict[str, Any]]] = {
    "search": ("/search", {"question": "Which word opens the vault?"}),
    "ask": ("/ask", {"question": "Which word opens the vault?"}),
    "stream": ("/ask", {"question": "Which word opens the vault?", "stream": True}),
    "chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Which word opens the vault?"}]}),
    "chat stream": (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "Which word opens the vault?"}], "stream": True},
    ),
    "store": ("/v1/vector_stores/{name}/search", {"query": "Which word opens the vault?"}),
}


def sent(keyed: Keyed, route: str, **more: Any) -> tuple[str, dict[str, Any]]:
    path, body = ROUTES[route]
    named = {"model": keyed.name} if "chat" in route else {}
    return path.format(name=keyed.name), {**body, **named, **more}


@pytest.mark.parametrize("route", ROUTES)
def test_a_key_gets_what_is_its_tenants_and_nothing_of_anothers(keyed: Keyed, route: str) -> None:
    path, body = sent(keyed, route)
    with keyed.client(keyed.globex) as own:
        answer = own.post(path, json=body)
        assert answer.status_code == 200, answer.text
        assert "rosebud" in answer.text
    with keyed.client(keyed.acme) as foreign:
        answer = foreign.post(path, json=body)
        assert answer.status_code == 200, answer.text
        for word in ("rosebud", "globex", "vault.txt"):
            assert word not in answer.text.replace("Which word opens the vault?", "")


@pytest.mark.parametrize(
    "more", [{"tenant": "globex"}, {"filter": 'key^="globex/"'}, {"filter": 'key="globex/vault.txt" or key="x"'},
             {"filter": 'not key="x"'}, {"session": "globex"}],
)  # fmt: skip
@pytest.mark.parametrize("route", ["search", "ask"])
def test_no_request_names_its_way_to_another_tenant(keyed: Keyed, route: str, more: dict[str, str]) -> None:
    path, body = sent(keyed, route, **more)
    with keyed.client(keyed.acme) as client:
        answer = client.post(path, json=body)
    assert answer.status_code == (400 if "tenant" in more else 200)
    assert "rosebud" not in answer.text
    assert '"key":"globex' not in answer.text.replace(" ", "")  # a note may repeat the caller's own filter


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("key", ["", "lsk_00000000_" + "a" * 43, "nonsense", "lsk_"])
def test_without_a_valid_key_nobody_is_answered(keyed: Keyed, route: str, key: str) -> None:
    path, body = sent(keyed, route)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    answer = httpx.post(f"{keyed.service.url}{path}", json=body, headers=headers, timeout=30)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="lockstep"'
    assert answer.json()["error"]["type"] == "authentication_error"
    assert key == "" or key not in answer.text


@pytest.mark.parametrize("route", ROUTES)
def test_a_pipeline_that_is_not_the_keys_is_none(keyed: Keyed, route: str) -> None:
    path, body = sent(keyed, route)
    with keyed.client(keyed.narrow) as client:
        refused = client.post(path, json=body)
        unknown_path, unknown = path.replace(keyed.name, "nobody"), {**body}
        if "model" in unknown:
            unknown["model"] = "nobody"
        elif "store" not in route:
            unknown["pipeline"] = "nobody"
        missing = client.post(unknown_path, json=unknown)
        assert refused.status_code == missing.status_code == 404
        told = [one.json()["error"] for one in (refused, missing)]
        assert told[0]["message"].replace(keyed.name, "nobody") == told[1]["message"]
        assert [model["id"].split(":")[0] for model in client.get("/v1/models").json()["data"]] == [keyed.other] * 3
        assert [store["id"] for store in client.get("/v1/vector_stores").json()["data"]] == [keyed.other]


def test_rights_are_those_that_were_given(keyed: Keyed) -> None:
    with keyed.client(keyed.searcher) as client:
        assert client.post("/search", json={"question": QUESTION}).status_code == 200
        refused = client.post("/ask", json={"question": QUESTION})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "missing_right")


def test_who_is_turned_away_is_counted_by_why(keyed: Keyed) -> None:
    def counted(why: str) -> float:
        return REGISTRY.get_sample_value("lockstep_rejected_total", {"reason": why}) or 0.0

    before = {why: counted(why) for why in ("no_key", "invalid_key", "missing_right", "pipeline_not_found")}
    path, body = ROUTES["ask"]
    with keyed.service.client() as nobody:
        nobody.post(path, json=body)
    for key in ("lsk_wrong", keyed.searcher, keyed.narrow):
        with keyed.client(key) as client:
            client.post(path, json=body)
    after = {why: counted(why) - before[why] for why in before}
    assert after == {"no_key": 1, "invalid_key": 1, "missing_right": 1, "pipeline_not_found": 0}


@pytest.mark.parametrize("header", ["X-API-Key", "api-key"])
def test_a_key_may_come_in_other_headers(keyed: Keyed, header: str) -> None:
    with keyed.service.client(headers={header: keyed.acme}) as client:
        assert client.post("/search", json={"question": QUESTION}).status_code == 200


def test_the_openai_client_knows_what_is_wrong(keyed: Keyed) -> None:
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{keyed.service.url}/v1", api_key="wrong", max_retries=0).models.list()
    good = openai.OpenAI(base_url=f"{keyed.service.url}/v1", api_key=keyed.acme, max_retries=0)
    assert keyed.name in [model.id for model in good.models.list()]


def test_a_revoked_key_is_refused_within_seconds(keyed: Keyed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.server.access.caller.VALID_SECONDS", 0.2)
    key, text = create_key(keyed.ledger, "a visitor", "acme", expires_at=now() + 3_600_000)
    with keyed.client(text) as client:
        assert client.post("/search", json={"question": QUESTION}).status_code == 200
        revoke_key(keyed.ledger, key.id)
        import time

        time.sleep(0.3)
        assert client.post("/search", json={"question": QUESTION}).status_code == 401


def test_probes_need_no_key(keyed: Keyed) -> None:
    for path in ("/health", "/livez", "/ready", "/readyz"):
        assert httpx.get(f"{keyed.service.url}{path}").status_code == 200


def test_a_key_learns_the_names_that_it_covers_and_nobody_else_learns_any(keyed: Keyed) -> None:
    for name in (keyed.name, keyed.other):
        with keyed.client(keyed.acme) as client:
            assert client.post("/search", json={"question": QUESTION, "pipeline": name}).status_code == 200
    assert httpx.get(f"{keyed.service.url}/ready").json() == {"ready": True, "parts": []}
    with keyed.client(keyed.narrow) as client:
        assert [part["name"] for part in client.get("/ready").json()["parts"]] == [f"{keyed.other}: index"]
    assert httpx.get(f"{keyed.service.url}/metrics").status_code == 401
    for key in (keyed.narrow, keyed.acme):
        with keyed.client(key) as client:
            refused = client.get("/metrics")
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "missing_right")
    with serving(keyed.name, own_key="of the home") as service:
        monitor = create_key(keyed.ledger, "prometheus", rights=["read"])[1]
        for key in ("of the home", monitor):
            shown = httpx.get(f"{service.url}/metrics", headers={"authorization": f"Bearer {key}"})
            assert "lockstep_http_request_seconds" in shown.text


def test_a_name_for_others_takes_a_key_also_on_loopback(index: Index, tmp_path: Path) -> None:
    """A proxy in front of it brings everybody: no key has been made yet, and nobody is let in."""
    body, called = {"question": QUESTION}, {"host": "ask.example"}
    with process(index.name, tmp_path, LOCKSTEP_PUBLIC_URL="https://ask.example") as (_, url):
        eventually(lambda: httpx.get(f"{url}/health").raise_for_status())
        for headers in (called, {}):
            refused = httpx.post(f"{url}/search", json=body, headers=headers, timeout=60)
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "no_key")
        assert httpx.get(f"{url}/v1/models", headers=called).status_code == 401


def test_keys_stand_in_no_log(keyed: Keyed, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level("DEBUG")
    with keyed.client(keyed.acme) as client:
        client.post("/ask", json={"question": "a question that nobody should read in a log"})
    written = "\n".join(
        record.getMessage() for record in caplog.records if record.name.startswith(("deployments", "tasks"))
    )
    assert "/ask 200" in written
    assert keyed.acme not in written
    assert "nobody should read" not in written


def asked(service: Service, key: str) -> httpx.Response:
    """Send the cheapest request that a key is needed for."""
    with service.client(headers={"authorization": f"Bearer {key}"}) as client:
        return client.get("/v1/models")


def test_a_key_may_ask_so_often_and_is_told_what_is_left(keyed: Keyed) -> None:
    with serving(keyed.name, rates=Rates("3/hour"), own_key="of the home") as service:
        answers = [asked(service, keyed.acme) for _ in range(4)]
        assert [one.status_code for one in answers] == [200, 200, 200, 429]
        assert [one.headers["x-ratelimit-remaining-requests"] for one in answers] == ["2", "1", "0", "0"]
        refused = answers[-1]
        assert refused.json()["error"]["code"] == "rate_limited"
        assert 1 <= int(refused.headers["retry-after"]) <= 3600
        assert refused.headers["ratelimit-policy"] == '"key";q=3;w=3600'
        assert asked(service, keyed.globex).status_code == 200
        assert [asked(service, "lsk_00000000_wrong").status_code for _ in range(4)] == [401, 401, 401, 429]
        assert {asked(service, "of the home").status_code for _ in range(5)} == {200}
        assert httpx.get(f"{service.url}/health").status_code == 200


def test_services_share_a_rate_in_redis_and_none_stops_when_redis_is_away(keyed: Keyed, redis_url: str) -> None:
    shared = [Rates("3/hour", redis_url) for _ in range(2)]
    with serving(keyed.name, rates=shared[0]) as one, serving(keyed.name, rates=shared[1]) as other:
        key = create_key(keyed.ledger, "shared", "acme")[1]
        codes = [asked(service, key).status_code for service in (one, other, one, other)]
        assert codes == [200, 200, 200, 429]
    with serving(keyed.name, rates=Rates("1/hour", f"redis://127.0.0.1:{free_port()}/0")) as alone:
        assert [asked(alone, keyed.acme).status_code for _ in range(3)] == [200, 200, 200]
        monitor = create_key(keyed.ledger, "prometheus", rights=["read"])[1]
        shown = httpx.get(f"{alone.url}/metrics", headers={"authorization": f"Bearer {monitor}"})
        assert "lockstep_uncounted_requests_total 4.0" in shown.text  # this one too
