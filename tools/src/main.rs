//! The operator's program of gridctl-telemetry.

fn main() {}
