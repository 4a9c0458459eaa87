//! One JSON object a line: logs as slog writes them, metrics as the flusher of the Go package does.

pub(crate) mod dialect;
pub(crate) mod line;
pub(crate) mod log;
pub(crate) mod metrics;
