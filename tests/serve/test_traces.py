"""Spans of what a question goes through: whose parent is whose, and that none holds what was said."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tasks import traces
from tests.serve.conftest import PUMP, QUESTION, Index, Service, eventually, process
from tests.support.chat_server import StubChat, claims
from tests.support.mcp_clients import call
from tests.support.servers import free_port

OF_CALLER = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{OF_CALLER}-b7ad6b7169203331-01"
QUOTE = "The filter of the pump must be replaced every 400 hours of operation."
GOOD = claims(("It is replaced every 400 hours of operation.", [(1, QUOTE)]))


@pytest.fixture(scope="session")
def exporter() -> InMemorySpanExporter:
    """What this process' spans go to. The provider of a process can be set once."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> Callable[[str], dict[str, list[ReadableSpan]]]:
    """Return a function that waits for the span of a request, and returns its trace's spans by the start of their
    names."""
    exporter.clear()

    def of(request: str) -> dict[str, list[ReadableSpan]]:
        until = time.monotonic() + 20
        while True:  # a client has its answer a moment before the span of its request ends
            finished = exporter.get_finished_spans()
            if ended := [span for span in finished if span.name == request]:
                break
            assert time.monotonic() < until, [span.name for span in finished]
            time.sleep(0.02)
        found: dict[str, list[ReadableSpan]] = {}
        for span in finished:
            if span.context.trace_id == ended[-1].context.trace_id:
                found.setdefault(span.name.split()[0], []).append(span)
        return found

    return of


def parent_of(span: ReadableSpan) -> str:
    assert span.parent
    return format(span.parent.span_id, "016x")


def id_of(span: ReadableSpan) -> str:
    return format(span.context.span_id, "016x")


def everything(found: dict[str, list[ReadableSpan]]) -> str:
    return "\n".join(span.to_json() for some in found.values() for span in some)


def test_a_question_leaves_spans_in_the_trace_of_its_caller(
    service: Service, with_chat: str, chat: StubChat, spans: Callable[[str], dict[str, list[ReadableSpan]]]
) -> None:
    chat.replies = [(200, GOOD)]
    with service.client() as client:
        body = {"question": QUESTION, "pipeline": with_chat}
        headers = {"traceparent": TRACEPARENT, "baggage": "secret=of-the-caller"}
        answered = client.post("/ask", json=body, headers=headers).raise_for_status().json()
    found = spans("POST /ask")
    (request,), (retrieval,), (embeddings,) = found["POST"], found["retrieval"], found["embeddings"]
    (chatting,), (checking,) = found["chat"], found["check"]

    assert format(request.context.trace_id, "032x") == OF_CALLER
    assert parent_of(request) == "b7ad6b7169203331"
    assert dict(request.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/ask",
        "http.response.status_code": 200,
    }
    assert {parent_of(span) for span in (retrieval, chatting, checking)} == {id_of(request)}
    assert {parent_of(span) for span in (embeddings, *found["search"])} == {id_of(retrieval)}

    collection = answered["collection"]
    assert {span.name for span in found["search"]} == {f"search {collection}"}
    assert {(span.attributes or {})["db.system.name"] for span in found["search"]} == {"milvus"}
    assert {(span.attributes or {})["lockstep.search.mode"] for span in found["search"]} == {"dense", "lexical"}
    of_chat = chatting.attributes or {}
    assert chatting.name == "chat served-model"
    assert (of_chat["gen_ai.usage.input_tokens"], of_chat["gen_ai.usage.output_tokens"]) == (11, 7)
    assert of_chat["gen_ai.response.time_to_first_chunk"] >= 0  # type: ignore[operator]
    assert dict(checking.attributes or {}) == {"lockstep.claims": 1, "lockstep.claims.verified": 1}

    sent = chat.headers[-1]
    assert sent["traceparent"] == f"00-{OF_CALLER}-{id_of(chatting)}-01"  # vLLM's own spans come below it
    assert "baggage" not in sent

    text = everything(found)
    assert all(said not in text for said in (QUESTION, "400 hours", *PUMP.split("\n\n")[2:3], "of-the-caller"))


def test_a_search_and_a_tool_of_mcp_leave_spans(
    service: Service, index: Index, spans: Callable[[str], dict[str, list[ReadableSpan]]]
) -> None:
    with service.client() as client:
        client.post("/search", json={"question": QUESTION}).raise_for_status()
        assert {"POST", "retrieval", "embeddings", "search"} == spans("POST /search").keys()
    call(service.url, "search", query=QUESTION)
    found = spans("tools/call search")
    assert {"tools/call", "retrieval", "embeddings", "search"} <= found.keys()
    (of_tool,) = found["tools/call"]
    assert parent_of(found["retrieval"][0]) == id_of(of_tool)
    assert QUESTION not in everything(found)


def test_what_is_done_for_several_requests_is_a_part_of_each_of_their_traces(
    exporter: InMemorySpanExporter,
) -> None:
    exporter.clear()
    places = []
    for number in (1, 2):
        with traces.request("POST", {"traceparent": f"00-{number:032x}-{number:016x}-01"}):
            places.append(traces.here())
    with suppress(ValueError), traces.together(places), traces.retrieval("docs", 8):
        with traces.embeddings("a-model"):
            pass
        with traces.some([1]), traces.search("docs_g0001", "http://milvus", "dense"):
            pass
        raise ValueError("a secret")
    with traces.check():
        pass  # and nothing after it
    by_trace: dict[str, dict[str, ReadableSpan]] = {}
    for span in exporter.get_finished_spans():
        by_trace.setdefault(format(span.context.trace_id, "032x"), {})[span.name] = span
    for number in (1, 2):
        found = by_trace[f"{number:032x}"]
        assert parent_of(found["retrieval docs"]) == id_of(found["POST"])
        assert parent_of(found["embeddings a-model"]) == id_of(found["retrieval docs"])
        assert (found["retrieval docs"].attributes or {})["error.type"] == "ValueError"
        assert found["embeddings a-model"].status.is_ok or not found["embeddings a-model"].status.description
    assert "search docs_g0001" not in by_trace[f"{1:032x}"]
    found = by_trace[f"{2:032x}"]
    assert parent_of(found["search docs_g0001"]) == id_of(found["retrieval docs"])
    assert len(by_trace) == 3, "the check is a trace of its own"


def test_a_failure_leaves_its_kind_and_never_its_message(
    service: Service, with_chat: str, chat: StubChat, spans: Callable[[str], dict[str, list[ReadableSpan]]]
) -> None:
    chat.replies = [(400, {"error": {"message": f"cannot answer: {QUESTION}"}})]
    with service.client() as client:
        refused = client.post("/ask", json={"question": QUESTION, "pipeline": with_chat})
        client.get("/health").raise_for_status()
        client.get("/metrics").raise_for_status()
    assert refused.status_code == 502
    found = spans("POST /ask")
    (request,), (chatting,) = found["POST"], found["chat"]
    assert not request.status.is_ok
    assert (request.attributes or {})["error.type"] == "502"
    assert not chatting.status.is_ok
    assert (chatting.attributes or {})["error.type"] == "BadRequestError"
    assert not chatting.events
    assert QUESTION not in everything(found)
    assert "GET" not in found  # probes leave no spans


class Collector:
    """An OpenTelemetry collector: it keeps the names of the spans that come, and who sent them."""

    def __init__(self) -> None:
        self.services: set[str] = set()
        self.spans: set[str] = set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                import gzip

                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    about = {one.key: one.value.string_value for one in of_resource.resource.attributes}
                    collector.services.add(about["service.name"])
                    collector.spans |= {span.name for scope in of_resource.scope_spans for span in scope.spans}
                self.send_response(200 if self.path == "/v1/traces" else 404)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.server.shutdown()
    collector.server.server_close()


def test_a_service_sends_its_last_spans_before_it_ends(index: Index, collector: Collector, tmp_path: Path) -> None:
    with process(index.name, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url) as (running, url):
        eventually(lambda: httpx.post(f"{url}/search", json={"question": QUESTION}, timeout=60).raise_for_status())
        running.terminate()
        running.wait(30)
    assert collector.services == {"lockstep"}
    assert {"POST /search", f"search {index.name}_g0001"} <= collector.spans


def test_a_collector_that_is_away_holds_up_nothing(index: Index, tmp_path: Path) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    with process(index.name, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=away) as (running, url):
        eventually(lambda: httpx.post(f"{url}/search", json={"question": QUESTION}, timeout=60).raise_for_status())
        running.terminate()
        assert running.wait(30) == -signal.SIGTERM
