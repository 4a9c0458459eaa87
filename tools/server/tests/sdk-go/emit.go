package main

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	otellog "go.opentelemetry.io/otel/log"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// One span with its log record, and one metric.
func emit(ctx context.Context, number int, tracer trace.Tracer, logger otellog.Logger, meter metric.Meter) error {
	text := fmt.Sprintf("text %d \"<&>\" 日本", number)
	attributes := []attribute.KeyValue{
		attribute.Int("number", number),
		attribute.Float64("ratio", float64(number)/8),
		attribute.Bool("even", number%2 == 0),
		attribute.String("text", text),
	}
	ctx, span := tracer.Start(ctx, fmt.Sprintf("span %d", number), trace.WithSpanKind(trace.SpanKindClient))
	span.SetAttributes(attributes...)
	span.AddEvent("event", trace.WithAttributes(attribute.Int("number", number)))
	if number%3 == 0 {
		span.SetStatus(codes.Error, "failed")
	}
	var record otellog.Record
	record.SetTimestamp(time.Now())
	record.SetSeverity(otellog.SeverityWarn)
	record.SetBody(attribute.StringValue(fmt.Sprintf("log %d", number)))
	record.AddAttributes(attributes...)
	logger.Emit(ctx, record)
	span.End()
	counter, err := meter.Int64Counter(fmt.Sprintf("metric.%d", number))
	if err != nil {
		return err
	}
	counter.Add(ctx, int64(number), metric.WithAttributes(attribute.String("text", text)))
	return nil
}
