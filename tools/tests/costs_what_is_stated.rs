//! Small inputs do not cost much: an import takes at most 256 MiB of memory, whatever it reads.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Home, gzip};

/// Lines that are a few kilobytes once they are compressed, and were hundreds of megabytes in memory.
fn expanding() -> [Vec<u8>; 2] {
    let log = r#"{"time":"2026-05-08T14:03:00Z","level":"INFO","msg":"a","b":"#;
    let objects = vec![r#"{"a":0}"#; 1_000_000].join(",");
    let no_utf8 = [
        log.as_bytes().to_vec(),
        b"\"".to_vec(),
        b"x\xff".repeat(29 << 20),
        b"\"}\n".to_vec(),
    ];
    [
        no_utf8.concat(),
        format!("{log}[{objects}]}}\n").into_bytes(),
    ]
}

#[test]
fn an_import_takes_256_mib_at_most() {
    let folder = tempfile::tempdir().unwrap();
    for (number, text) in expanding().into_iter().enumerate() {
        let home = Home::new();
        let path = folder.path().join("logs.jsonl.gz");
        gzip(&path, &text);
        // The limit is that of memory for data, in KiB. Beyond it the program aborts.
        let line = format!(
            "ulimit -d 262144; \"$0\" import-jsonl gw {} --server github",
            path.display()
        );
        let import = home.shell(&line);
        assert_eq!(import.code, 1, "{number}: {import:?}");
        assert!(import.stderr.contains("imported 0 records"), "{import:?}");
    }
}
