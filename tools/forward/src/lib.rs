//! Sends what a store has to an OTLP/HTTP endpoint, in order and at least once.
