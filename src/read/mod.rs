//! Reading records by time, by arrival, or the last ones, with several servers merged.

mod cursor;
mod query;
mod scan;
mod seed;

pub use self::{
    cursor::Cursor,
    query::Query,
    scan::{RawRecord, Records, Scan, StoredRecord},
    seed::{ScopeFilter, Seed, SeedRange, SeededTrace},
};
