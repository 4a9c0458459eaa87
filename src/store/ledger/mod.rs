//! The ledger of a database: records that were lost or evicted, the writers that may lose some, the
//! wipes that writers must honour, and the totals that outlive the records they are of.

pub(crate) mod losses;
pub(crate) mod totals;
pub(crate) mod wipes;
pub(crate) mod writers;

use crate::store::engine::fault::Fault;
use serde::{Deserialize, Serialize};

fn encode(value: &impl Serialize) -> Result<Vec<u8>, Fault> {
    rmp_serde::to_vec(value)
        .map_err(|error| Fault::Corrupt(format!("cannot encode an entry of the ledger: {error}")))
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Fault> {
    rmp_serde::from_slice(bytes)
        .map_err(|error| Fault::Corrupt(format!("cannot decode an entry of the ledger: {error}")))
}
