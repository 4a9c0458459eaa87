//! Sends what a store of `gridctl-telemetry` has to an OTLP/HTTP endpoint, in order and at least once.
//!
//! A [`Forwarder`] runs on threads of its own, one for each signal: it reads records in the order of their times,
//! and those that arrive later after them, sends them in batches, and keeps in a [cursor file](ForwardOptions::cursor)
//! which ones the endpoint has acknowledged. Whatever is killed, and however long the endpoint is away, no record is
//! missing; only batches that were on their way are sent twice.
//!
//! ```no_run
//! use gridctl_telemetry::{Store, StoreOptions, home::default_home};
//! use gridctl_telemetry_forward::{Endpoint, ForwardOptions, Forwarder};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Store::open(&default_home()?, "my-stack", StoreOptions::default())?;
//! let endpoint = Endpoint::at("https://collector.example.com")?.header("authorization", "Bearer …")?;
//! let forwarder = Forwarder::start(&store, ForwardOptions::new(endpoint).follow(true))?;
//! println!("{} records are sent", forwarder.stats().sent());
//! forwarder.stop()?;
//! # Ok(())
//! # }
//! ```
//!
//! | the endpoint | the forwarder |
//! |---|---|
//! | answers 200 with an empty or an OTLP message | goes on; rejected records of a partial success are counted |
//! | answers 429, 502, 503 or 504, does not answer, or cannot be reached | sends the batch again, see [`ForwardOptions::give_up_after`]; it waits as long as `Retry-After` says, at most five minutes, else longer from time to time, up to a minute |
//! | answers 200 with anything else | sends the batch five times, then reports it |
//! | redirects, or answers 401, 403, 404, 405 or 407 | reports it: no batch would be taken. Redirects are not followed, so credentials stay |
//! | answers 413 | sends the halves of the batch, down to one record |
//! | answers any other status | sets the batch aside as a file, enters its records in the ledger, and goes on |
//!
//! What is reported ends a forwarder that does not follow. One that follows tries again each minute.

mod answer;
mod backoff;
mod client;
mod cursor;
mod endpoint;
mod error;
mod forwarder;
mod lane;
mod missed;
mod reading;
mod refused;
mod source;
mod stats;

pub use self::{
    endpoint::{Compression, Endpoint},
    error::ForwardError,
    forwarder::{ForwardOptions, Forwarder},
    refused::refused_batches,
    stats::{ForwardEvent, ForwardStats, Missed, SignalStats},
};
