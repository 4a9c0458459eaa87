//! Levels, messages and values come back as they were logged, also from the `log` crate.

use crate::routed::{Counts, Routed};
use gridctl_telemetry::{
    Signal, Timestamp, Value,
    lines::{ParsedLine, parse_line},
};
use proptest::prelude::*;
use std::fmt;
use tracing::{debug, error, info, info_span, trace, warn};

#[test]
fn levels_are_those_of_slog() {
    let routed = Routed::to(&["github"]);
    routed.run(|| {
        error!(component = "github");
        warn!(component = "github");
        info!(component = "github");
        debug!(component = "github");
        trace!(component = "github");
    });
    let expected: Vec<String> = ["ERROR", "WARN", "INFO", "DEBUG", "DEBUG-4"]
        .iter()
        .map(|level| {
            format!("github: {{\"level\":\"{level}\",\"msg\":\"\",\"component\":\"github\"}}")
        })
        .collect();
    assert_eq!(routed.lines(), expected);
}

#[test]
fn values_keep_as_much_type_as_json_has() {
    let routed = Routed::to(&["github"]);
    routed.run(|| {
        info!(
            component = "github",
            yes = true,
            small = -1_i8,
            long = i64::MIN,
            unsigned = u64::MAX,
            fits = 5_i128,
            huge = i128::MIN,
            huger = u128::MAX,
            float = 1.5,
            whole = 2.0,
            single = 0.5_f32,
            nan = f64::NAN,
            endless = f64::NEG_INFINITY,
            some = Some(3),
            none = None::<u64>,
            text = "a\"b\nc",
            display = %1.5,
            debug = ?Some("x"),
            bytes = &b"\x01\xff"[..],
        );
    });
    assert_eq!(
        routed.line(),
        concat!(
            r#"github: {"level":"INFO","msg":"","component":"github","yes":true,"small":-1,"#,
            r#""long":-9223372036854775808,"unsigned":18446744073709551615,"fits":5,"#,
            r#""huge":-170141183460469231731687303715884105728,"#,
            r#""huger":340282366920938463463374607431768211455,"float":1.5,"whole":2.0,"#,
            r#""single":0.5,"nan":"\u004eaN","endless":"-\u0049nfinity","some":3,"text":"a\"b\nc","#,
            r#""display":"1.5","debug":"Some(\"x\")","bytes":"[01 ff]"}"#,
        )
    );
}

#[test]
fn errors_are_stored_with_their_source_chain() {
    #[derive(Debug)]
    struct Failure(&'static str, Option<Box<Failure>>);
    impl fmt::Display for Failure {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }
    impl std::error::Error for Failure {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(self.1.as_deref()?)
        }
    }
    /// An endless chain of errors.
    #[derive(Debug)]
    struct Circular;
    impl fmt::Display for Circular {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("again")
        }
    }
    impl std::error::Error for Circular {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&Circular)
        }
    }

    let routed = Routed::to(&["github"]);
    let refused = Failure("connection refused", None);
    let failure = Failure(
        "call failed",
        Some(Box::new(Failure("no route", Some(Box::new(refused))))),
    );
    routed.run(|| {
        error!(
            component = "github",
            error = &failure as &(dyn std::error::Error + 'static),
            "one"
        );
        error!(
            component = "github",
            error = &Circular as &(dyn std::error::Error + 'static),
            "two"
        );
    });
    let records = routed.records();
    assert_eq!(
        records[0].1.attribute("error"),
        Some(&Value::from("call failed: no route: connection refused"))
    );
    let Some(Value::String(endless)) = records[1].1.attribute("error") else {
        panic!("{records:?}");
    };
    assert_eq!(endless.matches("again").count(), 33);
}

#[test]
fn the_message_is_text_of_any_length_and_may_be_missing() {
    let routed = Routed::to(&["github"]);
    // The lengths at which the head of an encoded string changes its size.
    let lengths = [0, 1, 31, 32, 255, 256, 65_535, 65_536];
    routed.run(|| {
        for length in lengths {
            let text = "é".repeat(length / 2) + &"x".repeat(length % 2);
            info!(component = "github", plain = text, shown = %text, "{text}");
        }
        info!(message = 5, component = "github");
        info!(message = true, component = "github");
        info!(message = 0.5, component = "github");
        info!(message = u128::MAX, component = "github");
        info!(component = "github", plain = "", shown = "");
    });
    let records = routed.records();
    assert_eq!(records.len(), lengths.len() + 5);
    for ((_, record), length) in records.iter().zip(lengths) {
        assert_eq!(record.message.len(), length);
        for key in ["plain", "shown"] {
            assert_eq!(record.attribute(key), Some(&Value::from(&*record.message)));
        }
    }
    let others: Vec<&str> = records[lengths.len()..]
        .iter()
        .map(|(_, record)| &*record.message)
        .collect();
    assert_eq!(
        others,
        [
            "5",
            "true",
            "0.5",
            "340282366920938463463374607431768211455",
            ""
        ]
    );
}

#[test]
fn an_event_may_have_as_many_fields_as_tracing_allows() {
    let routed = Routed::to(&["github"]);
    routed.run(|| {
        info!(
            component = "github",
            a = 1,
            b = 2,
            c = 3,
            d = 4,
            e = 5,
            f = 6,
            g = 7,
            h = 8,
            i = 9,
            j = 10,
            k = 11,
            l = 12,
            m = 13,
            n = 14,
            o = 15,
            p = 16,
            q = 17,
            r = 18,
            s = 19,
            t = 20,
            u = 21,
            v = 22,
            w = 23,
            x = 24,
            y = 25,
            z = 26,
            aa = 27,
            bb = 28,
            cc = 29,
            dd = 30,
            "one"
        );
    });
    let (_, record) = &routed.records()[0];
    assert_eq!(record.attributes.len(), 31);
    assert_eq!(record.attribute("dd"), Some(&Value::Int(30)));
}

#[test]
fn names_that_mean_something_in_a_line_do_not_change_it() {
    let routed = Routed::to(&["github"]);
    let before = Timestamp::now();
    routed.run(|| {
        let _span = info_span!("msg", message = "of the span", ts = 1).entered();
        error!(
            component = "github",
            ts = "1999-01-01T00:00:00Z",
            level = 3,
            msg = "another",
            r#type = "raw",
            dotted.name = 1,
            "quoted name" = 2,
            "log.file.path" = "kept",
            "the message"
        );
    });
    let (_, record) = routed.records().remove(0);
    assert!(record.timestamp >= before && record.timestamp <= Timestamp::now());
    assert_eq!(
        routed.line(),
        concat!(
            r#"github: {"level":"ERROR","msg":"the message","component":"github","#,
            r#""ts":"1999-01-01T00:00:00Z","level":3,"msg":"another","type":"raw","#,
            r#""dotted.name":1,"quoted name":2,"log.file.path":"kept","#,
            r#""msg":{"message":"of the span","ts":1}}"#,
        )
    );
    // A reader of the line uses the first of each.
    let mut line = Vec::new();
    record.write_line(&mut line);
    let Ok(ParsedLine::Logs(read)) = parse_line(Signal::Logs, line.trim_ascii_end()) else {
        panic!();
    };
    assert_eq!(read, [(None, record)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_text_comes_back(
        message: String,
        text in ".{0,300}",
        own in "\\PC{0,40}",
        number: i64,
        huge: i128,
    ) {
        let routed = Routed::to(&["github"]);
        routed.run(|| {
            let _span = info_span!("call", component = "github", own).entered();
            info!(shown = %text, debug = ?text, number, huge, "{message}");
        });
        let (_, record) = routed.records().remove(0);
        prop_assert_eq!(&record.message, &message);
        prop_assert_eq!(record.attribute("shown"), Some(&Value::from(&*text)));
        prop_assert_eq!(record.attribute("debug"), Some(&Value::from(format!("{text:?}"))));
        prop_assert_eq!(record.attribute("number"), Some(&Value::Int(number)));
        let huge = match (i64::try_from(huge), u64::try_from(huge)) {
            (Ok(huge), _) => Value::Int(huge),
            (_, Ok(huge)) => Value::UInt(huge),
            _ => Value::Number(huge.to_string().into()),
        };
        prop_assert_eq!(record.attribute("huge"), Some(&huge));
        prop_assert_eq!(
            record.attribute("call"),
            Some(&Value::Object(vec![
                ("component".into(), "github".into()),
                ("own".into(), own.into()),
            ]))
        );
        routed.line();
    }
}

#[test]
fn records_of_the_log_crate_route_as_well() {
    // Only the first call in a process takes effect.
    let _ = tracing_log::LogTracer::init();
    let routed = Routed::to(&["github"]);
    routed.run(|| {
        log::info!("nobody");
        let _span = info_span!("call", component = "github").entered();
        log::error!("one {}", 1);
        log::trace!("two");
    });
    assert_eq!(
        routed.lines(),
        [
            r#"github: {"level":"ERROR","msg":"one 1","component":"github","call":{"component":"github"}}"#,
            r#"github: {"level":"DEBUG-4","msg":"two","component":"github","call":{"component":"github"}}"#,
        ]
    );
    routed.router.close();
    let counts = Counts::default();
    routed.run(|| log::error!("{counts}"));
    assert_eq!(counts.count(), 0);
}
