//! Batches that an endpoint refused for ever, as files.
//!
//! They are in the folder `refused` beside the database, `logs-<position>.binpb` and so on: the message as it was
//! sent, in protobuf, before compression. `curl --data-binary @FILE -H 'content-type: application/x-protobuf' URL`
//! sends one again.

use gridctl_telemetry::{Signal, query::Cursor};
use gridctl_telemetry_files::AtomicFile;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The name of the folder.
const FOLDER: &str = "refused";
/// The most files that are kept, and the most bytes: the first refused batches say what is wrong.
const FILES_MAX: usize = 64;
const BYTES_MAX: u64 = 64 << 20;

/// Keeps a refused message, whose last record has this position. Returns its file; `None` when there are too many.
///
/// A message of the same position replaces an earlier one: it was refused again after a kill.
pub(crate) fn keep(
    stack: &Path,
    signal: Signal,
    last: Cursor,
    message: &[u8],
) -> Result<Option<PathBuf>, String> {
    let folder = stack.join(FOLDER);
    let path = folder.join(format!("{signal}-{last}.binpb"));
    let (files, bytes) = kept(&folder, &path)
        .map_err(|error| format!("cannot read the folder {}: {error}", folder.display()))?;
    if files >= FILES_MAX || bytes.saturating_add(message.len() as u64) > BYTES_MAX {
        return Ok(None);
    }
    let write = || {
        let mut file = AtomicFile::create(&path)?;
        file.write_bytes(message)?;
        file.finish()
    };
    write().map_err(|error| format!("{error:#}"))?;
    Ok(Some(path))
}

/// The batches that endpoints refused for ever and that were kept, in the folder of a stack: the signal and the file of
/// each. They hold copies of records, also of ones that were deleted from the database since.
///
/// Fails when the folder cannot be read.
pub fn refused_batches(stack: &Path) -> io::Result<Vec<(Signal, PathBuf)>> {
    let mut found = Vec::new();
    for path in files(&stack.join(FOLDER))? {
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.strip_suffix(".binpb"));
        let is_of = |signal: &Signal| {
            let rest = number.and_then(|name| name.strip_prefix(signal.as_str()));
            rest.is_some_and(|rest| rest.starts_with('-'))
        };
        if let Some(signal) = Signal::ALL.into_iter().find(is_of) {
            found.push((signal, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The number and the size of the files in the folder, but for `path`.
fn kept(folder: &Path, path: &Path) -> io::Result<(usize, u64)> {
    let (mut count, mut bytes) = (0, 0_u64);
    for file in files(folder)? {
        if file != path {
            count += 1;
            bytes = bytes.saturating_add(fs::symlink_metadata(&file)?.len());
        }
    }
    Ok((count, bytes))
}

/// The paths in the folder; none when it does not exist.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_bounded_number_of_private_files_is_kept() {
        let stack = tempfile::tempdir().unwrap();
        let cursor = |number: usize| -> Cursor { format!("{number:032x}").parse().unwrap() };
        let keep = |number| keep(stack.path(), Signal::Logs, cursor(number), b"message").unwrap();
        for number in 0..FILES_MAX {
            let path = keep(number).unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"message");
            assert_eq!(
                fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
        assert_eq!(keep(FILES_MAX), None);
        let found = refused_batches(stack.path()).unwrap();
        assert!(found.len() == FILES_MAX && found.iter().all(|(of, _)| *of == Signal::Logs));
        // Again after a kill.
        assert!(keep(3).is_some());
        let large = super::keep(stack.path(), Signal::Traces, cursor(0), &vec![0; 65 << 20]);
        assert_eq!(large, Ok(None));
    }
}
