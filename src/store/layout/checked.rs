//! Values with a checksum.
//!
//! redb has a checksum for each page, but verifies it only when it repairs or checks a database, not
//! when it reads the page. So every value whose damage could pass for other data ends in a checksum of
//! its own, which covers its key as well: a damaged key must not assign the value to another time or
//! server. The bodies and the summaries of blocks have checksums in their own formats, and the entries
//! of `meta`, which are numbers, have one for all of them (see
//! [`seal_meta`](crate::store::engine::schema::seal_meta)).
//!
//! A checksum is the low half of an XXH3-64. With 4 bytes, one in 2^32 damaged values passes: a disk that
//! damages a value every day would return one of them as true in 11 million years. Another 4 bytes
//! would cost 2 % of a short row and spare no one anything.

use crate::store::engine::{fault::Fault, transaction::Table};
use redb::Key;
use std::borrow::Borrow;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The length of a checksum, in bytes.
pub(crate) const CHECKSUM_BYTES: usize = 4;

fn checksum(key: &[u8], value: &[u8]) -> [u8; CHECKSUM_BYTES] {
    // The key is hashed last: it is short, and a seed is expensive for long inputs.
    let hash = xxh3_64_with_seed(key, xxh3_64(value));
    let [a, b, c, d, ..] = hash.to_le_bytes();
    [a, b, c, d]
}

/// Appends the stored form of `value` to `out`.
pub(crate) fn encode(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(value);
    out.extend_from_slice(&checksum(key, value));
}

/// Turns `value` into its stored form.
pub(crate) fn seal(key: &[u8], value: &mut Vec<u8>) {
    let checksum = checksum(key, value);
    value.extend_from_slice(&checksum);
}

/// The value in a stored form; `None` when the value or its key is damaged.
pub(crate) fn decode<'v>(key: &[u8], stored: &'v [u8]) -> Option<&'v [u8]> {
    let (value, found) = stored.split_last_chunk()?;
    (*found == checksum(key, value)).then_some(value)
}

/// Like [`decode`], for the key of a table. Fails when the value or its key is damaged.
pub(crate) fn read<'v, K: Key + 'static>(
    key: &K::SelfType<'_>,
    stored: &'v [u8],
) -> Result<&'v [u8], Fault> {
    decode(K::as_bytes(key).as_ref(), stored)
        .ok_or_else(|| Fault::Corrupt("the checksum does not match".to_owned()))
}

/// Stores `value` under `key`.
pub(crate) fn insert<'k, K: Key + 'static>(
    table: &mut Table<'_, K, &'static [u8]>,
    key: impl Borrow<K::SelfType<'k>>,
    value: &[u8],
) -> Result<(), Fault> {
    let mut stored = Vec::with_capacity(value.len() + CHECKSUM_BYTES);
    encode(K::as_bytes(key.borrow()).as_ref(), value, &mut stored);
    table.insert(key, stored.as_slice())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_flipped_bit_is_noticed(
            key in prop::collection::vec(any::<u8>(), 1..30),
            value in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut stored = Vec::new();
            encode(&key, &value, &mut stored);
            prop_assert_eq!(decode(&key, &stored), Some(value.as_slice()));
            for bit in 0..stored.len() * 8 {
                let mut damaged = stored.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                prop_assert_eq!(decode(&key, &damaged), None);
            }
            for bit in 0..key.len() * 8 {
                let mut damaged = key.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                prop_assert_eq!(decode(&damaged, &stored), None);
            }
            prop_assert_eq!(decode(&key, &stored[..stored.len() - 1]), None);
        }
    }
}
