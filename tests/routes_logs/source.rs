//! Where an event comes from, and what an event without a message says.

use crate::routed::{Routed, all};
use gridctl_telemetry::{LogRecord, Value, logs::LogOptions};
use tracing::{Level, error, error_span, info, instrument};

/// The one record that `log` stores with these options.
fn stored(options: LogOptions, log: impl FnOnce()) -> LogRecord {
    let routed = Routed::new();
    routed.router.add_server("github", options).unwrap();
    routed.run(log);
    let mut records = routed.records();
    assert_eq!(records.len(), 1);
    records.remove(0).1
}

fn keys(record: &LogRecord) -> Vec<&str> {
    (record.attributes.iter())
        .map(|(key, _)| key.as_str())
        .collect()
}

#[test]
fn the_target_is_stored_and_the_location_if_it_is_asked_for() {
    let record = stored(LogOptions::default(), || info!(component = "github", "one"));
    assert_eq!(keys(&record), ["component", "target"]);
    let target = Value::from("routes_logs::source");
    assert_eq!(record.attribute("target"), Some(&target));

    let line = line!() + 2;
    let record = stored(LogOptions::default().location(true), || {
        info!(target: "gateway", component = "github", "one");
    });
    assert_eq!(keys(&record), ["component", "target", "file", "line"]);
    assert_eq!(record.attribute("target"), Some(&Value::from("gateway")));
    assert_eq!(record.attribute("file"), Some(&Value::from(file!())));
    assert_eq!(record.attribute("line"), Some(&Value::Int(line.into())));

    let record = stored(all(), || info!(component = "github", "one"));
    assert_eq!(keys(&record), ["component"]);
}

#[test]
fn fields_of_the_event_itself_are_kept() {
    let record = stored(LogOptions::default().location(true), || {
        info!(component = "github", target = "own", file = 1, line = true);
    });
    assert_eq!(keys(&record), ["component", "target", "file", "line"]);
    assert_eq!(record.attribute("target"), Some(&Value::from("own")));
    assert_eq!(record.attribute("file"), Some(&Value::Int(1)));
    assert_eq!(record.attribute("line"), Some(&Value::Bool(true)));
}

#[test]
fn events_of_the_log_crate_have_their_own_source() {
    let record = stored(LogOptions::default().location(true), || {
        let span = error_span!("call", component = "github");
        let _entered = span.enter();
        let record = log::Record::builder()
            .level(log::Level::Info)
            .args(format_args!("one"))
            .target("library::http")
            .file(Some("library/http.rs"))
            .line(Some(7))
            .build();
        tracing_log::format_trace(&record).unwrap();
    });
    assert_eq!(record.message, "one");
    let target = Value::from("library::http");
    assert_eq!(record.attribute("target"), Some(&target));
    let file = Value::from("library/http.rs");
    assert_eq!(record.attribute("file"), Some(&file));
    assert_eq!(record.attribute("line"), Some(&Value::Int(7)));
}

#[test]
fn an_instrumented_function_that_fails_says_so() {
    #[instrument(err)]
    fn connect(port: u16) -> Result<(), String> {
        Err(format!("connection refused on {port}"))
    }
    let routed = Routed::to(&["postgres"]);
    routed.run(|| {
        let _handler = error_span!("handler", component = "postgres").entered();
        connect(5432).unwrap_err();
        info!(error = "no reason", "with a message");
        tracing::event!(parent: None, Level::ERROR, component = "postgres", error = "alone");
    });
    assert_eq!(
        routed.lines(),
        [
            concat!(
                r#"postgres: {"level":"ERROR","msg":"connect: connection refused on 5432","#,
                r#""error":"connection refused on 5432","component":"postgres","#,
                r#""handler":{"component":"postgres","connect":{"port":5432}}}"#
            ),
            concat!(
                r#"postgres: {"level":"INFO","msg":"with a message","error":"no reason","#,
                r#""component":"postgres","handler":{"component":"postgres"}}"#
            ),
            r#"postgres: {"level":"ERROR","msg":"alone","component":"postgres","error":"alone"}"#,
        ]
    );
}

#[test]
fn a_long_error_fits_its_record_all_the_same() {
    let text = "é".repeat(300 << 10);
    let record = stored(all(), || error!(component = "github", error = text));
    assert_eq!(record.attribute("error"), Some(&Value::from(&*text)));
    assert_eq!(record.message, "é".repeat(512));
}
