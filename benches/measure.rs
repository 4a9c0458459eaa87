//! Folders, clocks, numbers and tables of the benchmarks.

use anyhow::{Context, Result, bail};
use std::{
    fmt, fs,
    os::unix::fs::MetadataExt,
    path::Path,
    str::FromStr,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// The options of a benchmark: `--name` and `--name value`, after `--` on cargo's command line.
#[derive(Debug)]
pub struct Arguments {
    arguments: Vec<String>,
}

impl Arguments {
    /// This process's arguments. Fails on a name that is not in `known`.
    pub fn read(known: &[&str]) -> Result<Arguments> {
        // Cargo adds this argument itself.
        let arguments: Vec<String> = std::env::args()
            .skip(1)
            .filter(|argument| argument != "--bench")
            .collect();
        for name in arguments.iter().filter(|name| name.starts_with("--")) {
            if !known.contains(&name.as_str()) {
                bail!(
                    "unknown option {name}: the options are {}",
                    known.join(", ")
                );
            }
        }
        Ok(Arguments { arguments })
    }

    /// Whether the option is given.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.arguments.iter().any(|argument| argument == name)
    }

    /// The value after the option, or `default`.
    pub fn value<T: FromStr>(&self, name: &str, default: T) -> Result<T> {
        let Some(at) = self.arguments.iter().position(|argument| argument == name) else {
            return Ok(default);
        };
        self.arguments
            .get(at + 1)
            .and_then(|value| value.parse().ok())
            .with_context(|| format!("{name} needs a value"))
    }
}

/// A folder that is deleted when it is dropped. `parent` must be on a real disk: a benchmark of synced
/// commits is meaningless on a file system in memory, as `/tmp` may be.
pub fn bench_folder(parent: &str) -> Result<TempDir> {
    fs::create_dir_all(parent)?;
    tempfile::Builder::new()
        .prefix("bench-")
        .tempdir_in(parent)
        .with_context(|| format!("create a folder in {parent}"))
}

/// The disk space of the files in `folder`, in bytes.
pub fn disk_bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() {
            disk_bytes(&entry.path())?
        } else {
            // POSIX counts `st_blocks` in units of 512 bytes.
            metadata.blocks() * 512
        };
    }
    Ok(bytes)
}

/// Runs `work` and returns its result and how long it took.
pub fn time<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let started = Instant::now();
    let outcome = work()?;
    Ok((outcome, started.elapsed()))
}

/// The processor time of all threads of this process so far.
#[must_use]
pub fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// The bytes that this process has written to disks so far.
pub fn written_bytes() -> Result<u64> {
    fs::read_to_string("/proc/self/io")?
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "))
        .and_then(|bytes| bytes.parse().ok())
        .context("this system does not count what a process writes")
}

/// The resident memory of a process, in bytes.
pub fn resident_bytes(process: u32) -> Result<u64> {
    let pages: u64 = fs::read_to_string(format!("/proc/{process}/statm"))?
        .split_whitespace()
        .nth(1)
        .context("this system does not report the memory of a process")?
        .parse()?;
    Ok(pages * rustix::param::page_size() as u64)
}

/// The value in the middle; for an even number of values, the upper of the two.
pub fn median<T: Ord + Copy>(values: &[T]) -> Result<T> {
    let mut values = values.to_vec();
    values.sort_unstable();
    values
        .get(values.len() / 2)
        .copied()
        .context("there is no median of no values")
}

/// `a` divided by `b`.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    reason = "what is measured has fewer than 53 bits of precision"
)]
pub fn ratio(a: u64, b: u64) -> f64 {
    a as f64 / b as f64
}

/// A duration in whole nanoseconds, for [`ratio`].
#[must_use]
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The rate of `count` in `duration`, per second.
#[must_use]
pub fn per_second(count: u64, duration: Duration) -> f64 {
    ratio(count, nanos(duration)) * 1e9
}

/// A duration as text, in the unit that suits it.
#[must_use]
pub fn seconds(duration: Duration) -> String {
    format!("{duration:.1?}")
}

/// Bytes as text, in MiB.
#[must_use]
pub fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", ratio(bytes, 1 << 20))
}

/// A Markdown table: the first column is text, aligned left; the others are numbers, aligned right.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    #[must_use]
    pub fn new(heads: &[&str]) -> Table {
        Table {
            rows: vec![heads.iter().map(|head| (*head).to_owned()).collect()],
        }
    }

    /// Adds a row with a cell for each heading.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.first().map_or(0, Vec::len);
        let cells = |row: &Vec<String>, column: usize| row.get(column).map_or(0, String::len);
        let widths: Vec<usize> = (0..columns)
            .map(|column| self.rows.iter().map(|row| cells(row, column)).max())
            .map(|width| width.unwrap_or(0).max(3))
            .collect();
        for (number, row) in self.rows.iter().enumerate() {
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                if column == 0 {
                    write!(f, "| {cell:<width$} ")?;
                } else {
                    write!(f, "| {cell:>width$} ")?;
                }
            }
            writeln!(f, "|")?;
            if number == 0 {
                for (column, width) in widths.iter().enumerate() {
                    let (dashes, end) =
                        ("-".repeat(width - 1), if column == 0 { '-' } else { ':' });
                    write!(f, "| {dashes}{end} ")?;
                }
                writeln!(f, "|")?;
            }
        }
        Ok(())
    }
}
