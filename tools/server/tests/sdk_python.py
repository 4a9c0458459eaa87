"""Send logs, spans and metrics with OpenTelemetry's SDK for Python.

Usage: sdk_python.py ENDPOINT COUNT, where ENDPOINT is a URL without a path.

Needs the packages `opentelemetry-sdk` and `opentelemetry-exporter-otlp-proto-http`. The span with a number has a
log record in it and the metric of that number beside it. The test says what they hold.
"""

import sys
import time

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

endpoint, count = sys.argv[1], int(sys.argv[2])
resource = Resource({"service.name": "sdk-python"})

traces = TracerProvider(resource=resource)
spans = OTLPSpanExporter(f"{endpoint}/v1/traces", compression=Compression.Gzip)
traces.add_span_processor(BatchSpanProcessor(spans, max_queue_size=2 * count))
logs = LoggerProvider(resource=resource)
records = OTLPLogExporter(f"{endpoint}/v1/logs")
logs.add_log_record_processor(BatchLogRecordProcessor(records, max_queue_size=2 * count))
points = PeriodicExportingMetricReader(OTLPMetricExporter(f"{endpoint}/v1/metrics"))
metrics = MeterProvider(resource=resource, metric_readers=[points])

tracer, logger, meter = traces.get_tracer("test"), logs.get_logger("test"), metrics.get_meter("test")
for number in range(count):
    attributes = {
        "number": number,
        "ratio": number / 8,
        "even": number % 2 == 0,
        "text": f'text {number} "<&>" 日本',
    }
    with tracer.start_as_current_span(f"span {number}", kind=SpanKind.CLIENT, attributes=attributes) as span:
        span.add_event("event", {"number": number})
        if number % 3 == 0:
            span.set_status(StatusCode.ERROR, "failed")
        logger.emit(
            LogRecord(
                timestamp=time.time_ns(),
                severity_number=SeverityNumber.WARN,
                body=f"log {number}",
                attributes=attributes,
            )
        )
    meter.create_counter(f"metric.{number}").add(number, {"text": attributes["text"]})

for provider in (traces, logs, metrics):
    provider.shutdown()
