//! An event on the thread that logs it, beside JSON lines.

use crate::{FOLDER, Found, Run};
use anyhow::Result;
use gridctl_telemetry_benches::{
    EventKind, bench_folder, compare_events, ratio,
    report::{Figure, Unit},
};

const PEER: &str = "fmt().json() to tracing-appender";

pub(crate) fn run(run: &Run) -> Result<Found> {
    let rounds = if run.quick { 3 } else { 31 };
    let mut figures = Vec::new();
    for kind in EventKind::ALL {
        let (id, what, bound) = match kind {
            EventKind::Burst => ("event.row", "an event on its thread, in a row", Some(0.2)),
            EventKind::SpanEach => (
                "event.span",
                "an event on its thread, in a span of its own",
                Some(0.25),
            ),
            // Most of this time is the waking of a thread, on both sides.
            EventKind::Pauses => ("event.pause", "an event on its thread, after silence", None),
        };
        run.progress.step(what);
        let (ours, theirs) = compare_events(bench_folder(FOLDER)?.path(), kind, rounds)?;
        let (ours, theirs) = (ratio(ours.cpu, 1), ratio(theirs.cpu, 1));
        let mut figure = Figure::new(id, what, Unit::Nanos, ours).beside(PEER, theirs);
        if let Some(bound) = bound {
            figure = figure.at_most_times(bound, theirs, "JSON lines");
        }
        figures.push(figure);
    }
    Ok(figures.into())
}
