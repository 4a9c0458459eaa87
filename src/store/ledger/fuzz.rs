//! Fuzzing of the values of tables beside those of records.

#![allow(clippy::unwrap_used, reason = "a fuzzer reports by panicking")]

use super::{
    decode, encode,
    losses::{LossSpan, decode_kills},
    wipes::Marks,
    writers::Process,
};
use crate::{
    record::Totals,
    store::{
        layout::{
            series::{SeriesId, SeriesState},
            values,
        },
        policy::limits::SeriesLimits,
    },
};

/// Decodes a value as one of each table.
pub(crate) fn values(input: &[u8]) {
    let _ = values::decode::<SeriesState>(input);
    let _ = values::decode::<SeriesLimits>(input);
    let _ = decode::<LossSpan>(input);
    let _ = decode_kills(input);
    let _ = Marks::decode(input);
    let _ = decode::<Process>(input);
    let _ = decode::<Totals>(input);
}

/// Values of tables.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut state = SeriesState::new(SeriesId(7));
    state.span_classes = vec![(40, 3), (50, 1)];
    let span = LossSpan::new(7, 1, 1 << 60);
    let totals = Totals {
        timestamp: 1 << 60,
        ..Totals::default()
    };
    vec![
        encode(&state).unwrap(),
        encode(&span).unwrap(),
        [
            encode(&span).unwrap(),
            encode(&vec![(span, 3_u64)]).unwrap(),
        ]
        .concat(),
        encode(&totals).unwrap(),
        encode(&(7_u32, 1_u64 << 40)).unwrap(),
        [
            encode(&(1_u64, 2_u64)).unwrap(),
            encode(&vec![((1_u64, 2_u64), 3_i64)]).unwrap(),
        ]
        .concat(),
    ]
}
