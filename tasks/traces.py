"""The spans that Lockstep makes, by name: this is the only place that knows the names.

A request to the service is a SERVER span. Inside it, what a question goes through:

    retrieval docs             gen_ai.operation.name, gen_ai.data_source.id, gen_ai.retrieval.top_k
      embeddings MODEL         the time that the question waits for its vector
      search docs_g0003        CLIENT, one for each call of Milvus: db.system.name, db.collection.name, …
    chat MODEL                 CLIENT, one for each attempt: gen_ai.usage.*, gen_ai.response.time_to_first_chunk
    check citations            lockstep.claims, lockstep.claims.verified

Names follow OpenTelemetry's conventions: HTTP's and databases' are stable, those of generative AI are not yet. No
span holds a question, an answer, a passage, or an error's message, which may quote them. Without an SDK
(:mod:`deployments.server.observability.tracing`) a span costs microseconds and goes nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit

from opentelemetry import propagate, trace
from opentelemetry.context import Context, get_current
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

TRACER = trace.get_tracer("lockstep")


def request(method: str, headers: Mapping[str, str]) -> AbstractContextManager[Span]:
    """Span a request to the service, as a part of the caller's trace if it sends a ``traceparent``."""
    about = {"http.request.method": method}
    return _span(method, SpanKind.SERVER, about, propagate.extract(headers))


def responded(span: Span, method: str, route: str, status: int) -> None:
    """Note how a request ended; ``status`` is 0 when the client had gone before."""
    span.update_name(f"{method} {route}")
    span.set_attribute("http.route", route)
    if status:
        span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_attribute("error.type", str(status))
        span.set_status(Status(StatusCode.ERROR))


def retrieval(pipeline: str, top_k: int) -> AbstractContextManager[Span]:
    """Span what finds the passages of a question: the checks of its generation, the embedding and the searches."""
    about = {
        "gen_ai.operation.name": "retrieval",
        "gen_ai.data_source.id": pipeline,
        "gen_ai.retrieval.top_k": top_k,
    }
    return _span(f"retrieval {pipeline}", SpanKind.INTERNAL, about)


def embeddings(model: str) -> AbstractContextManager[Span]:
    """Span the time that a question waits for its vector. Other questions may be embedded in the same pass."""
    about = {"gen_ai.operation.name": "embeddings", "gen_ai.request.model": model}
    return _span(f"embeddings {model}", SpanKind.INTERNAL, about)


def search(collection: str, uri: str, mode: str) -> AbstractContextManager[Span]:
    """Span one search of a collection of the Milvus at ``uri``."""
    about = {
        "db.system.name": "milvus",
        "db.operation.name": "search",
        "db.collection.name": collection,
        "lockstep.search.mode": mode,
        **_server(uri),
    }
    return _span(f"search {collection}", SpanKind.CLIENT, about)


def chat(model: str, base_url: str, max_tokens: int) -> AbstractContextManager[Span]:
    """Span one request to a chat model."""
    about = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": model,
        "gen_ai.request.max_tokens": max_tokens,
        **_server(base_url),
    }
    return _span(f"chat {model}", SpanKind.CLIENT, about)


def first_chunk(seconds: float) -> None:
    """Note on the span of a chat how long its first piece took."""
    trace.get_current_span().set_attribute("gen_ai.response.time_to_first_chunk", round(seconds, 4))


def used(tokens: Mapping[str, int]) -> None:
    """Note on the span of a chat the tokens that it took: ``prompt`` and ``completion``."""
    names = {"prompt": "gen_ai.usage.input_tokens", "completion": "gen_ai.usage.output_tokens"}
    trace.get_current_span().set_attributes({names[kind]: count for kind, count in tokens.items() if kind in names})


def check() -> AbstractContextManager[Span]:
    """Span the check of an answer's citations."""
    return _span("check citations", SpanKind.INTERNAL, {})


def checked(span: Span, claims: int, verified: int) -> None:
    """Note how many claims were checked, and how many a quote supports."""
    span.set_attributes({"lockstep.claims": claims, "lockstep.claims.verified": verified})


def outgoing() -> dict[str, str]:
    """Return the headers that make a request to another server a part of this trace; none without a trace."""
    headers: dict[str, str] = {}
    propagate.inject(headers)
    headers.pop("baggage", None)  # a caller's baggage is not ours to pass on
    return headers


def _server(url: str) -> dict[str, Any]:
    """Return the host and port of an address, never a password in it."""
    place = urlsplit(url)
    if not place.hostname:  # a file of Milvus Lite
        return {}
    return {"server.address": place.hostname, **({"server.port": place.port} if place.port else {})}


def here() -> Context:
    """Return the place in a trace at which this code runs, for :func:`together`."""
    return get_current()


@contextmanager
def together(places: Sequence[Context]) -> Iterator[None]:
    """Make each span inside the ``with`` once for each place: what is done for several requests is a part of all."""
    token = _places.set(tuple(places))
    try:
        yield
    finally:
        _places.reset(token)


@contextmanager
def some(positions: Sequence[int]) -> Iterator[None]:
    """Make each span inside the ``with`` for some of the places alone: those at these positions, from 0."""
    places = _places.get()
    with together([places[at] for at in positions] if places else ()):
        yield


_places: ContextVar[tuple[Context, ...]] = ContextVar("places", default=())


@contextmanager
def _span(name: str, kind: SpanKind, about: Mapping[str, Any], context: Context | None = None) -> Iterator[Span]:
    """Make a span the current one. An error is noted by its type alone."""
    places = _places.get()
    spans = [TRACER.start_span(name, one, kind, dict(about)) for one in places or (context,)]
    token = _places.set(tuple(map(trace.set_span_in_context, spans, places)))
    try:
        with trace.use_span(spans[0], record_exception=False, set_status_on_exception=False):
            yield spans[0]
    except BaseException as error:
        for span in spans:
            span.set_attribute("error.type", type(error).__name__)
            if isinstance(error, Exception):
                span.set_status(Status(StatusCode.ERROR))
        raise
    finally:
        _places.reset(token)
        for span in spans:
            span.end()
