//! Fuzzing of the files of a spill. Their checksums are corrected, so that changes reach the decoder.

#![allow(clippy::unwrap_used, reason = "a fuzzer reports by panicking")]

use super::{
    CHECKED_FROM, HEADER_BYTES, MAGIC, Next, SpillHeader, SpilledRecord, decode_header, read_record,
};
use crate::{record::ServerName, signal::Signal, store::layout::values};
use std::borrow::Cow;
use xxhash_rust::xxh3::xxh3_64;

/// Reads a file.
pub(crate) fn files(input: &[u8]) {
    let mut file = input.to_vec();
    correct(&mut file);
    if let Some(header) = file.first_chunk() {
        let _ = decode_header(header);
    }
    let mut rest = file.get(HEADER_BYTES..).unwrap_or_default();
    while let Next::Record(_) | Next::Lost { is_last: false, .. } = read_record(&mut rest) {}
}

/// Corrects the checksums of the header and of each record that is whole.
fn correct(file: &mut [u8]) {
    let Some((header, mut rest)) = file.split_at_mut_checked(HEADER_BYTES) else {
        return;
    };
    let (head, checked) = header.split_at_mut(CHECKED_FROM);
    let (_, checksum) = head.split_at_mut(8);
    checksum.copy_from_slice(&xxh3_64(checked).to_le_bytes());
    while let Some((length, record)) = rest.split_first_chunk_mut::<4>() {
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let Some((checksum, body)) = record.split_first_chunk_mut::<8>() else {
            return;
        };
        let Some((body, after)) = body.split_at_mut_checked(length) else {
            return;
        };
        *checksum = xxh3_64(body).to_le_bytes();
        rest = after;
    }
}

/// A file with a few records.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let header = SpillHeader {
        database: 9,
        boot: 7,
        wipe_generation: 1,
        failure: Some((5, "no space".to_owned())),
        is_closed: true,
    };
    let header = values::encode(&header).unwrap();
    let mut file = MAGIC.to_vec();
    file.extend([0; 8]);
    file.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
    file.extend(header);
    file.resize(HEADER_BYTES, 0);
    for batch in 1..4 {
        let record = SpilledRecord {
            batch,
            server: Cow::Owned(ServerName::new("github").unwrap()),
            signal: Signal::Logs,
            timestamp: 1 << 60,
            emitted: 7,
            payload: Cow::Borrowed(b"payload"),
        };
        record.encode(&mut file);
    }
    correct(&mut file);
    vec![file]
}
