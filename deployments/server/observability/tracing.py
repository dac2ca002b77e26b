"""Send the spans of :mod:`tasks.traces` to a collector, if one is named. The extra ``otel`` holds what that needs.

OpenTelemetry's own variables say the rest: OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS, …
"""

from __future__ import annotations

from collections.abc import Callable

from tasks.errors import MisuseError

VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"


def begin(endpoint: str) -> Callable[[], None]:
    """Send spans to the collector at ``endpoint`` from now on, and return a function that sends the last ones.

    Without an endpoint nothing is sent. A collector that is away costs spans, and no answer waits for it. Raises
    ``MisuseError`` when the extra is not installed.
    """
    if not endpoint:
        return lambda: None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise MisuseError(
            f"{VARIABLE} is set, but what sends traces is not installed. Install it with "
            "`pip install 'lockstep[otel]'`, or unset the variable."
        ) from error
    from opentelemetry import trace

    named = Resource.create({"service.name": "lockstep"}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=named)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint}/v1/traces")))
    trace.set_tracer_provider(provider)
    return provider.shutdown
