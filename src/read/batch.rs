//! Raw records that outlive the step of a scan that lent them.

use super::RawRecord;
use crate::{record::ServerName, signal::Signal, store::ReadRecord, time::Timestamp};
use hashbrown::HashMap;

/// Records, still encoded, that are kept when their scan moves on: to be read on another thread, for example.
#[derive(Debug, Clone, Default)]
pub struct RawBatch {
    servers: Vec<ServerName>,
    /// The places of the servers in `servers`.
    places: HashMap<ServerName, usize>,
    records: Vec<Kept>,
    payloads: Vec<u8>,
}

#[derive(Debug, Clone)]
struct Kept {
    server: usize,
    signal: Signal,
    timestamp: Timestamp,
    sequence: u64,
    /// Where the payload ends.
    end: usize,
}

impl RawBatch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> RawBatch {
        RawBatch::default()
    }

    /// Adds a copy of a record.
    pub fn push(&mut self, record: &RawRecord<'_>) {
        let server = if let Some(place) = self.places.get(record.server) {
            *place
        } else {
            let place = self.servers.len();
            self.servers.push(record.server.clone());
            self.places.insert(record.server.clone(), place);
            place
        };
        record.append_payload(&mut self.payloads);
        self.records.push(Kept {
            server,
            signal: record.signal,
            timestamp: record.timestamp,
            sequence: record.sequence,
            end: self.payloads.len(),
        });
    }

    /// Removes all records, and keeps the memory for others.
    pub fn clear(&mut self) {
        self.records.clear();
        self.payloads.clear();
    }

    /// The number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are no records.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The length of all encoded records, in bytes.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.payloads.len()
    }

    /// The records, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = RawRecord<'_>> {
        let mut start = 0;
        self.records.iter().filter_map(move |kept| {
            let payload = self.payloads.get(start..kept.end)?;
            start = kept.end;
            Some(RawRecord {
                server: self.servers.get(kept.server)?,
                signal: kept.signal,
                timestamp: kept.timestamp,
                sequence: kept.sequence,
                content: ReadRecord::Payload(payload),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_copies_of_its_records_in_their_order() {
        let servers = ["github", "postgres"].map(|name| ServerName::new(name).unwrap());
        let payloads: [&[u8]; 4] = [b"a", b"", b"bc", b"d"];
        let record = |number: usize| RawRecord {
            server: &servers[number % 2],
            signal: Signal::ALL[number % 3],
            timestamp: Timestamp::from_unix_nanos(7 - i64::try_from(number).unwrap()),
            sequence: number as u64,
            content: ReadRecord::Payload(payloads[number]),
        };
        let mut batch = RawBatch::new();
        for numbers in [0..4, 2..3] {
            batch.clear();
            assert!(batch.is_empty());
            let expected: Vec<_> = numbers.map(record).collect();
            for record in &expected {
                batch.push(record);
            }
            let found: Vec<_> = batch.iter().collect();
            assert_eq!(format!("{found:?}"), format!("{expected:?}"));
            assert_eq!(batch.len(), expected.len());
        }
        assert_eq!(batch.payload_bytes(), 2);
    }
}
