//! Usage by language model, from spans.
//!
//! The attributes are those of the OpenTelemetry semantic conventions for generative AI
//! (<https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/>). Counts of cached and of
//! reasoning tokens are parts of the counts read here.

use super::{Key, Rows, UsageBy, UsageCounts, UsageQuery};
use crate::{
    error::Result,
    filter::Filter,
    otlp::{integer_attribute, text_attribute},
    record::CallCounts,
    signal::Signal,
    store::Snapshot,
};
use opentelemetry_proto::tonic::{common::v1::KeyValue, trace::v1::Span};
use std::collections::HashSet;
use xxhash_rust::xxh3::xxh3_64;

/// The attributes that name the model, in order of precedence: the one that answered can be another
/// one than was asked for.
const MODEL_KEYS: [&str; 2] = ["gen_ai.response.model", "gen_ai.request.model"];
/// The attributes with the input tokens, the present name first.
const INPUT_KEYS: [&str; 2] = ["gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"];
/// The attributes with the output tokens, the present name first.
const OUTPUT_KEYS: [&str; 2] = [
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.completion_tokens",
];
const OPERATION: &str = "gen_ai.operation.name";
/// Operations whose usage is the sum of the model calls below them.
const SUMMING_OPERATIONS: [&str; 2] = ["invoke_agent", "invoke_workflow"];

/// The usage of each model.
pub(super) fn count(snapshot: &Snapshot, query: &UsageQuery) -> Result<Rows> {
    let mut records = query.records(Signal::Traces, query.range);
    for server in &query.servers {
        records = records.server(server.clone());
    }
    let keys = INPUT_KEYS.into_iter().chain(OUTPUT_KEYS);
    let filters: Vec<Filter> = keys.map(Filter::field).collect::<Result<_>>()?;
    records = records.filter(Filter::any(filters));
    let mut spans = snapshot.scan(&records)?.records();
    let mut rows = Rows::default();
    // An agent's span repeats the usage of its model calls, which are spans of their own, unless the
    // agent is remote. Traces are held as hashes.
    let mut traces_with_calls = HashSet::new();
    let mut sums = Vec::new();
    while let Some(stored) = spans.next().transpose()? {
        let Some(span) = stored.record.into_span().map(|record| record.span) else {
            continue;
        };
        let Some(usage) = ModelUsage::of(&span) else {
            continue;
        };
        let key = Key {
            time: query.interval(stored.timestamp),
            server: query.is_by(UsageBy::Server).then_some(stored.server),
            name: usage.model.map(str::to_owned),
        };
        let trace = xxh3_64(&span.trace_id);
        let counts = usage.counts();
        if usage.is_sum {
            sums.push((trace, key, counts));
        } else {
            traces_with_calls.insert(trace);
            rows.add(key, counts);
        }
    }
    for (_, key, counts) in sums
        .into_iter()
        .filter(|(trace, ..)| !traces_with_calls.contains(trace))
    {
        rows.add(key, counts);
    }
    rows.damage = spans.damage();
    Ok(rows)
}

/// What a span says of the language model that it called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModelUsage<'a> {
    /// The model that answered, or else the requested one.
    pub model: Option<&'a str>,
    /// The tokens that were sent to it.
    pub input_tokens: i64,
    /// The tokens that it returned.
    pub output_tokens: i64,
    /// Whether the numbers are those of the spans below this one together, such as those of an agent.
    pub is_sum: bool,
}

impl ModelUsage<'_> {
    /// The usage that a span reports in the attributes `gen_ai.usage.*`, if any.
    #[must_use]
    pub fn of(span: &Span) -> Option<ModelUsage<'_>> {
        let count = |keys| first(keys, |key| count_attribute(&span.attributes, key));
        let (input, output) = (count(INPUT_KEYS), count(OUTPUT_KEYS));
        let operation = text_attribute(&span.attributes, OPERATION);
        (input.is_some() || output.is_some()).then(|| ModelUsage {
            model: first(MODEL_KEYS, |key| text_attribute(&span.attributes, key)),
            input_tokens: input.unwrap_or(0),
            output_tokens: output.unwrap_or(0),
            is_sum: operation.is_some_and(|it| SUMMING_OPERATIONS.contains(&it)),
        })
    }

    fn counts(self) -> UsageCounts {
        UsageCounts::of_calls(CallCounts {
            calls: 1,
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            last_called_at: None,
        })
    }
}

fn count_attribute(attributes: &[KeyValue], key: &str) -> Option<i64> {
    integer_attribute(attributes, key).filter(|count| *count >= 0)
}

fn first<'a, T>(keys: [&'a str; 2], read: impl FnMut(&'a str) -> Option<T>) -> Option<T> {
    keys.into_iter().find_map(read)
}
