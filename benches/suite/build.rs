//! The processor time of the library's clean release build, and of each crate.

use crate::{FOLDER, Found, Run};
use anyhow::{Context, Result, ensure};
use gridctl_telemetry_benches::{
    bench_folder,
    report::{Figure, Unit},
};
use std::{
    collections::BTreeMap,
    env,
    ffi::{OsStr, OsString},
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
    process::{Command, ExitCode},
    time::Duration,
};

const BOUND_SECONDS: f64 = 70.0;
/// Crates that take less are added up.
const SHOWN_SECONDS: f64 = 2.0;
/// The variable that names the file for the time of each crate. When it is set, this program is cargo's `RUSTC_WRAPPER`.
const TIMES: &str = "GRIDCTL_TELEMETRY_BUILD_TIMES";
const LIBRARY: &str = "gridctl-telemetry";

pub(crate) fn run(run: &Run) -> Result<Found> {
    run.progress.step("cargo build --release, from nothing");
    let folder = bench_folder(FOLDER)?;
    let times = folder.path().join("times");
    let before = children_time()?;
    let status = Command::new(env!("CARGO"))
        .args(["build", "--release", "--locked", "--quiet", "-p", LIBRARY])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .env("CARGO_TARGET_DIR", folder.path().join("target"))
        .env("RUSTC_WRAPPER", env::current_exe()?)
        .env(TIMES, &times)
        .status()?;
    ensure!(status.success(), "the library cannot be built");
    let total = children_time()?.saturating_sub(before).as_secs_f64();
    let mut crates: BTreeMap<String, f64> = BTreeMap::new();
    for line in fs::read_to_string(&times)?.lines() {
        let (name, seconds) = line.split_once('\t').context("a name and a time")?;
        *crates.entry(name.replace('_', "-")).or_default() += seconds.parse::<f64>()?;
    }
    let mut crates: Vec<(String, f64)> = crates.into_iter().collect();
    crates.sort_by(|a, b| b.1.total_cmp(&a.1));
    let compiled: f64 = crates.iter().map(|(_, seconds)| seconds).sum();
    let what = "the library's clean release build, processor time";
    let mut figure = Figure::new("build", what, Unit::CpuSeconds, total).at_most(BOUND_SECONDS);
    for (name, seconds) in crates
        .iter()
        .filter(|(_, seconds)| *seconds >= SHOWN_SECONDS)
    {
        figure = figure.beside(name, *seconds);
    }
    let small = crates
        .iter()
        .filter(|(_, seconds)| *seconds < SHOWN_SECONDS);
    let (count, seconds) = small.fold((0, 0.0), |(count, sum), (_, it)| (count + 1, sum + it));
    // What is no compiler of Rust is the C compiler, and cargo.
    figure = figure
        .beside(format!("{count} smaller crates"), seconds)
        .beside("C code (zstd) and cargo", total - compiled);
    Ok(vec![figure].into())
}

/// If cargo has started this program in place of the compiler: compiles, and notes how long that took.
pub(crate) fn as_compiler() -> Option<Result<ExitCode>> {
    let times = env::var_os(TIMES)?;
    Some(compile(&times))
}

fn compile(times: &OsStr) -> Result<ExitCode> {
    let mut arguments = env::args_os().skip(1);
    let compiler = arguments.next().context("the compiler's path")?;
    let arguments: Vec<OsString> = arguments.collect();
    let status = Command::new(compiler).args(&arguments).status()?;
    let mut names = arguments.windows(2).filter_map(|pair| match pair {
        [option, name] if option == "--crate-name" => name.to_str(),
        _ => None,
    });
    // Cargo asks the compiler questions under this name, and without one.
    if let Some(name) = names.next().filter(|name| *name != "___") {
        let line = format!("{name}\t{}\n", children_time()?.as_secs_f64());
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(times)?
            .write_all(line.as_bytes())?;
    }
    let code = u8::try_from(status.code().unwrap_or(1)).unwrap_or(1);
    Ok(ExitCode::from(code))
}

/// The processor time of all processes that this one has started and that have ended.
fn children_time() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name of the program, in parentheses, may have spaces.
    let (_, fields) = stat.rsplit_once(')').context("a name in parentheses")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |at: usize| -> Result<u64> { Ok(fields.get(at).context("a time")?.parse()?) };
    // `cutime` and `cstime` are the fields 16 and 17; the first here is the third.
    let ticks = ticks(13)? + ticks(14)?;
    Ok(Duration::from_millis(
        ticks * 1000 / rustix::param::clock_ticks_per_second(),
    ))
}
