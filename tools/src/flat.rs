//! The layout of the flat files: which files there are, whose they are, and in which order they
//! were written.

use crate::output::{note, server_of_folder};
use anyhow::{Context, bail};
use gridctl_telemetry::{ServerName, Signal};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    /// What a file's name says.
    fn of(path: &Path) -> Packing {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("gz") => Packing::Gzip,
            Some("zst") => Packing::Zstd,
            _ => Packing::Plain,
        }
    }
}

/// A file of records of one signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FlatFile {
    pub(crate) path: PathBuf,
    /// Whose records they are, where the records do not say so themselves.
    pub(crate) server: Option<ServerName>,
    pub(crate) signal: Signal,
    pub(crate) packing: Packing,
    pub(crate) bytes: u64,
}

/// What a file of the layout is called.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileName {
    signal: Signal,
    /// When it was rotated, as it stands in the name; `None` for the active file.
    rotated: Option<String>,
    gzip: bool,
}

/// The form of a rotated file's time; zeros stand for digits.
const ROTATED_FORM: &[u8] = b"0000-00-00T00-00-00.000";

/// Takes a name apart; `None` when it is not one of the layout, in which case the file is the
/// user's own and nobody's business.
fn parse_name(name: &str) -> Option<FileName> {
    Signal::ALL.into_iter().find_map(|signal| {
        let rest = name.strip_prefix(signal.as_str())?;
        if rest == ".jsonl" {
            return Some(FileName {
                signal,
                rotated: None,
                gzip: false,
            });
        }
        let rest = rest.strip_prefix('-')?;
        let (rest, gzip) = rest
            .strip_suffix(".gz")
            .map_or((rest, false), |rest| (rest, true));
        let time = rest.strip_suffix(".jsonl")?;
        let formed = time.len() == ROTATED_FORM.len()
            && time
                .bytes()
                .zip(ROTATED_FORM)
                .all(|(byte, form)| match form {
                    b'0' => byte.is_ascii_digit(),
                    form => byte == *form,
                });
        formed.then(|| FileName {
            signal,
            rotated: Some(time.to_owned()),
            gzip,
        })
    })
}

/// The files below a stack's folder, each server's and signal's in the order of time: rotated ones
/// oldest first, then the active one. With `server`, `folder` may also be that server's own.
pub(crate) fn find_files(
    folder: &Path,
    server: Option<&ServerName>,
    signal: Option<Signal>,
) -> anyhow::Result<Vec<FlatFile>> {
    let mut files = Vec::new();
    let mut folders = Vec::new();
    for (path, name) in entries(folder)? {
        if path.is_dir() {
            let owner = server_of_folder(&name)
                .with_context(|| format!("cannot import {}", path.display()))?;
            if server.is_none_or(|server| *server == owner) {
                folders.push((path, owner));
            }
        }
    }
    if let Some(server) = server {
        files.extend(files_of_server(folder, server, signal)?);
    }
    for (path, owner) in folders {
        files.extend(files_of_server(&path, &owner, signal)?);
    }
    if files.is_empty() {
        bail!(
            "{} holds no telemetry: expected SERVER/logs.jsonl, metrics.jsonl or traces.jsonl \
             below it, or --server for a folder of one server",
            folder.display()
        );
    }
    Ok(files)
}

fn files_of_server(
    folder: &Path,
    server: &ServerName,
    signal: Option<Signal>,
) -> anyhow::Result<Vec<FlatFile>> {
    let mut found = Vec::new();
    for (path, name) in entries(folder)? {
        if let Some(name) = parse_name(&name)
            && signal.is_none_or(|signal| signal == name.signal)
            && path.is_file()
        {
            found.push((name, path));
        }
    }
    // The active file has no time and comes last; of a plain file and its gzip the plain one comes
    // first.
    found.sort_by_key(|(name, _)| {
        (
            name.signal,
            name.rotated.is_none(),
            name.rotated.clone(),
            name.gzip,
        )
    });
    found.dedup_by(|(later, path), (earlier, _)| {
        // A rotation that was cut off leaves both, and then the gzip is the incomplete one.
        let twin = later.rotated.is_some()
            && later.signal == earlier.signal
            && later.rotated == earlier.rotated;
        if twin {
            note(&format!(
                "{}: left out, its uncompressed twin is read",
                path.display()
            ));
        }
        twin
    });
    found
        .into_iter()
        .map(|(name, path)| {
            let bytes = size(&path)?;
            Ok(FlatFile {
                path,
                server: Some(server.clone()),
                signal: name.signal,
                packing: if name.gzip {
                    Packing::Gzip
                } else {
                    Packing::Plain
                },
                bytes,
            })
        })
        .collect()
}

/// A single file, whose signal its name tells if nobody else does.
pub(crate) fn single_file(
    path: &Path,
    server: Option<&ServerName>,
    signal: Option<Signal>,
) -> anyhow::Result<FlatFile> {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let from_name = || {
        parse_name(name).map(|name| name.signal).or_else(|| {
            let stem = name.split(['.', '-']).next()?;
            stem.parse().ok()
        })
    };
    let Some(signal) = signal.or_else(from_name) else {
        bail!(
            "what {} holds does not follow from its name: pass --signal",
            path.display()
        );
    };
    Ok(FlatFile {
        path: path.to_owned(),
        server: server.cloned(),
        signal,
        packing: Packing::of(path),
        bytes: size(path)?,
    })
}

fn size(path: &Path) -> anyhow::Result<u64> {
    let metadata = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(metadata.len())
}

/// A folder's entries whose names are UTF-8, sorted.
fn entries(folder: &Path) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let cannot = || format!("cannot read the folder {}", folder.display());
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        match entry.file_name().into_string() {
            Ok(name) => entries.push((entry.path(), name)),
            Err(name) => note(&format!(
                "{}: left out, its name is not UTF-8",
                name.display()
            )),
        }
    }
    entries.sort_by(|a, b| a.1.cmp(&b.1));
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_layout_are_claimed() {
        let active = parse_name("logs.jsonl").unwrap();
        assert_eq!(
            (active.signal, active.rotated, active.gzip),
            (Signal::Logs, None, false)
        );
        let rotated = parse_name("traces-2026-04-30T12-00-00.000.jsonl.gz").unwrap();
        assert_eq!(rotated.rotated.as_deref(), Some("2026-04-30T12-00-00.000"));
        assert!(rotated.gzip);
        for name in [
            "logs-backup.jsonl",
            "logs.jsonl.gz",
            "logs.json",
            "logs-2026-04-30T12:00:00.000.jsonl",
            "logs-2026-04-30T12-00-00.jsonl",
            "mylogs.jsonl",
            "logs-2026-04-30T12-00-00.000.jsonl.bak",
        ] {
            assert_eq!(parse_name(name), None, "{name}");
        }
    }

    #[test]
    fn files_come_in_the_order_of_time() {
        let stack = tempfile::tempdir().unwrap();
        let server = stack.path().join("github");
        fs::create_dir(&server).unwrap();
        for name in [
            "logs.jsonl",
            "logs-2026-04-30T12-00-00.000.jsonl",
            "logs-2026-04-29T12-00-00.000.jsonl.gz",
            "logs-2026-04-30T12-00-00.000.jsonl.gz",
            "logs-backup.jsonl",
            "metrics.jsonl",
        ] {
            fs::write(server.join(name), b"").unwrap();
        }
        let names: Vec<String> = find_files(stack.path(), None, None)
            .unwrap()
            .into_iter()
            .map(|file| {
                file.path
                    .file_name()
                    .unwrap()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        assert_eq!(
            names,
            [
                "logs-2026-04-29T12-00-00.000.jsonl.gz",
                "logs-2026-04-30T12-00-00.000.jsonl",
                "logs.jsonl",
                "metrics.jsonl"
            ]
        );
    }
}
