//! Records through lines of OTLP/JSON and back.

mod logs;
mod metrics;
mod views;
