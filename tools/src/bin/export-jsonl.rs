//! Writes stored records as files.

use std::process::ExitCode;

fn main() -> ExitCode {
    gridctl_telemetry_tools::export_main()
}
