//! No input makes a parser or a codec panic, end the process, or take more than 256 MiB or 2 seconds of
//! processor time: stored bytes, files, lines of other programs, and what users type.
//!
//! `GRIDCTL_TELEMETRY_FUZZ_SECONDS` is how long all targets together are tried, 4 by default, and
//! `GRIDCTL_TELEMETRY_FUZZ_TARGET` the only target to try. A failure prints its target, seed and number,
//! which `GRIDCTL_TELEMETRY_FUZZ_CASE`, such as `lines 7 1234`, repeats.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "common/fuzzing.rs"]
mod fuzzing;
#[path = "common/helper.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod helper;

#[global_allocator]
static ALLOCATOR: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

#[test]
fn helper_fuzzes() {
    if let Some(arguments) = helper::helper_arguments() {
        let targets = gridctl_telemetry::testing::fuzz_targets();
        fuzzing::work(&targets, &arguments, ALLOCATOR);
    }
}

#[test]
fn no_input_is_too_much() {
    fuzzing::run(&gridctl_telemetry::testing::fuzz_targets(), "helper_fuzzes");
}
