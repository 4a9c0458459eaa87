//! The operator's program of gridctl-telemetry.

use std::process::ExitCode;

fn main() -> ExitCode {
    gridctl_telemetry_tools::main()
}
