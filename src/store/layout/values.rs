//! The values of tables beside those of records: small structures as `MessagePack`.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// How deep a value nests at most. A field that is not known is passed over by recursion, and one from a
/// damaged file, a thousand levels deep, would overflow the stack of a thread.
const DEPTH_MAX: usize = 32;

pub(crate) fn encode(value: &impl Serialize) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    rmp_serde::to_vec(value)
}

pub(crate) fn decode<'a, T: Deserialize<'a>>(
    bytes: &'a [u8],
) -> Result<T, rmp_serde::decode::Error> {
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
    deserializer.set_max_depth(DEPTH_MAX);
    T::deserialize(&mut deserializer)
}

/// Decodes the value at the start of `bytes`, and leaves the rest.
pub(crate) fn decode_next<T: DeserializeOwned>(
    bytes: &mut &[u8],
) -> Result<T, rmp_serde::decode::Error> {
    let mut deserializer = rmp_serde::Deserializer::new(bytes);
    deserializer.set_max_depth(DEPTH_MAX);
    T::deserialize(&mut deserializer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::layout::series::SeriesState;

    /// A map of maps under a key that is not known.
    #[test]
    fn a_value_that_nests_deeply_is_an_error() {
        let deep = b"\x81\x0f".repeat(30_000);
        assert!(decode::<SeriesState>(&deep).is_err());
        assert!(decode_next::<SeriesState>(&mut deep.as_slice()).is_err());
    }
}
