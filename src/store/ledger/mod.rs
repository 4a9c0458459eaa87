//! The ledger of a database: records that were lost or evicted, the writers that may lose some, the
//! wipes that writers must honour, and the totals that outlive the records they are of.

pub(crate) mod damage;
#[cfg(feature = "simulation")]
pub(crate) mod fuzz;
pub(crate) mod losses;
pub(crate) mod spill;
pub(crate) mod totals;
pub(crate) mod wipes;
pub(crate) mod writers;

use crate::store::{
    engine::fault::Fault,
    layout::{checked, values},
};
use redb::Key;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

fn encode(value: &impl Serialize) -> Result<Vec<u8>, Fault> {
    values::encode(value)
        .map_err(|error| Fault::Corrupt(format!("cannot encode an entry of the ledger: {error}")))
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Fault> {
    values::decode(bytes).map_err(undecodable)
}

/// The value of an entry whose key is `key`, without its checksum.
fn checked_value<'v, K: Key + 'static>(
    key: &K::SelfType<'_>,
    stored: &'v [u8],
) -> Result<&'v [u8], Fault> {
    checked::read::<K>(key, stored).map_err(|fault| fault.within("an entry of the ledger"))
}

/// Decodes the value at the start of `bytes`, and leaves the rest.
fn decode_next<T: DeserializeOwned>(bytes: &mut &[u8]) -> Result<T, Fault> {
    values::decode_next(bytes).map_err(undecodable)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that `map_err` calls"
)]
fn undecodable(error: rmp_serde::decode::Error) -> Fault {
    Fault::Corrupt(format!("cannot decode an entry of the ledger: {error}"))
}
