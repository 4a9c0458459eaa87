//! Logs in the encoding in which they are stored.

use super::{LogRecord, payload::PayloadError};
use crate::{
    error::{Error, Result},
    signal::Signal,
    time::Timestamp,
};
use std::fmt;

/// A log in the encoding in which it is stored, as a reader of lines makes it.
#[derive(Clone, PartialEq, Eq)]
pub struct EncodedLog {
    timestamp: Timestamp,
    payload: Vec<u8>,
}

impl fmt::Debug for EncodedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncodedLog")
            .field("timestamp", &self.timestamp)
            .field("payload_bytes", &self.payload.len())
            .finish()
    }
}

impl EncodedLog {
    pub(crate) fn new(timestamp: Timestamp, payload: Vec<u8>) -> EncodedLog {
        EncodedLog { timestamp, payload }
    }

    /// The time of the log.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The log as a record.
    ///
    /// Fails with [`Error::InvalidRecord`] only if this crate has encoded it wrongly.
    pub fn decode(&self) -> Result<LogRecord> {
        LogRecord::decode_payload(self.timestamp, &self.payload).map_err(|error: PayloadError| {
            Error::InvalidRecord {
                signal: Signal::Logs,
                reason: error.to_string(),
            }
        })
    }
}
