//! Whatever an endpoint answers, each record arrives, or is reported and kept; and what is secret stays.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::default_trait_access,
    clippy::cast_possible_wrap,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Far, Reply, Request, Stack, answer, logs_to, messages, numbered, ok};
use gridctl_telemetry::{
    Signal,
    external::opentelemetry_proto::tonic::collector::logs::v1::{
        ExportLogsPartialSuccess, ExportLogsServiceResponse,
    },
    ledger::LossCause,
};
use gridctl_telemetry_forward::{
    Compression, Endpoint, ForwardError, ForwardEvent, ForwardOptions, ForwardStats, Forwarder,
};
use prost::Message;
use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::channel,
    },
    time::{Duration, SystemTime},
};

const HANG: Duration = Duration::from_secs(120);

/// Forwards until all is sent or an error ends it.
fn forward(stack: &Stack, options: ForwardOptions) -> (ForwardStats, Result<(), ForwardError>) {
    let forwarder = Forwarder::start(&stack.store, options).unwrap();
    assert!(forwarder.wait(HANG), "it hangs: {:?}", forwarder.stats());
    forwarder.finish()
}

/// Forwards with success.
fn forwarded(stack: &Stack, options: ForwardOptions) -> ForwardStats {
    let (stats, outcome) = forward(stack, options);
    outcome.unwrap();
    stats
}

fn at(far: &Far) -> Endpoint {
    Endpoint::at(&far.url()).unwrap()
}

#[test]
fn each_record_is_sent_once_in_order_and_later_ones_follow() {
    let stack = Stack::with(10_000);
    let far = Far::start(|_, _| ok());
    let endpoint = at(&far).header("x-key", "secret").unwrap();
    let stats = forwarded(&stack, logs_to(endpoint.clone()).0);
    assert_eq!(stats.sent(), 10_000);
    assert_eq!(far.messages(), numbered(0..10_000));
    for request in far.requests() {
        let header = |name: &str| request.headers[name].clone();
        assert_eq!(request.path, "/v1/logs");
        assert_eq!(header("x-key"), "secret");
        assert_eq!(header("content-type"), "application/x-protobuf");
        assert_eq!(header("content-encoding"), "gzip");
    }
    assert_eq!(forwarded(&stack, logs_to(endpoint.clone()).0).sent(), 0);
    // One with an old time comes late.
    stack.log(10_000..10_003);
    stack.log(5..6);
    let plain = endpoint.compression(Compression::None);
    assert_eq!(forwarded(&stack, logs_to(plain.clone()).0).sent(), 4);
    let late = far.messages()[10_000..].to_vec();
    assert_eq!(late, ["5", "10000", "10001", "10002"]);
    // Another endpoint has a cursor of its own, and all can be sent anew.
    let other = Far::start(|_, _| ok());
    assert_eq!(forwarded(&stack, logs_to(at(&other)).0).sent(), 10_004);
    assert_eq!(
        forwarded(&stack, logs_to(plain).0.anew(true)).sent(),
        10_004
    );
}

#[test]
fn resources_name_the_database_and_the_machine() {
    let stack = Stack::with(1);
    let far = Far::start(|_, _| ok());
    forwarded(&stack, logs_to(at(&far)).0);
    let id = stack
        .store
        .snapshot()
        .unwrap()
        .database_id()
        .unwrap()
        .unwrap();
    let resources = common::resources(&far.requests()[0]);
    let text = format!("{resources:?}");
    assert!(
        text.contains(&format!("{id:016x}")) && text.contains("host.name"),
        "{text}"
    );
    assert!(
        text.contains("service.instance.id") && text.contains("github"),
        "{text}"
    );
}

#[test]
fn an_answer_that_says_later_is_waited_for() {
    let past = httpdate::fmt_http_date(SystemTime::now() - Duration::from_secs(90_000));
    let replies = [
        answer("429 Too Many Requests", "Retry-After: 0\r\n", b""),
        answer(
            "503 Service Unavailable",
            &format!("Retry-After: {past}\r\n"),
            b"",
        ),
        answer("502 Bad Gateway", "Content-Type: text/html\r\n", b"<html>"),
        answer("504 Gateway Timeout", "", b""),
    ];
    let replies: Vec<Vec<u8>> = (replies.into_iter())
        .map(|reply| match reply {
            Reply::Whole(bytes) => bytes,
            _ => panic!(),
        })
        .collect();
    let stack = Stack::with(100);
    let far = Far::start(move |number, _| {
        replies
            .get(number)
            .map_or_else(ok, |it| Reply::Whole(it.clone()))
    });
    let (options, events) = logs_to(at(&far));
    let stats = forwarded(&stack, options);
    let sum = |of: fn(&gridctl_telemetry_forward::SignalStats) -> u64| stats.sum(of);
    assert_eq!(
        (stats.sent(), sum(|it| it.retries), sum(|it| it.maybe_twice)),
        (100, 4, 0)
    );
    let events = events.all();
    assert!(
        matches!(&events[0], ForwardEvent::Trouble { reason, .. } if reason.contains("429")),
        "{events:?}"
    );
    assert_eq!(
        events.last(),
        Some(&ForwardEvent::Recovered {
            signal: Signal::Logs
        }),
        "{events:?}"
    );
}

#[test]
fn half_an_answer_and_none_count_as_unanswered() {
    let stack = Stack::with(100);
    let far = Far::start(|number, _| match number {
        0 => Reply::Broken(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n\x0a".to_vec()),
        1 => Reply::Broken(b"HTTP/1.1 20".to_vec()),
        2 => Reply::Broken(Vec::new()),
        3 => Reply::Never,
        _ => ok(),
    });
    let endpoint = at(&far).timeout(Duration::from_millis(300));
    let stats = forwarded(&stack, logs_to(endpoint).0);
    assert_eq!(stats.sent(), 100);
    // It may have the batch four times, and that is said.
    assert_eq!(
        (stats.sum(|it| it.retries), stats.sum(|it| it.maybe_twice)),
        (4, 400)
    );
}

#[test]
fn a_page_is_no_acknowledgement() {
    let stack = Stack::with(100);
    let page = Arc::new(AtomicBool::new(true));
    let is_page = Arc::clone(&page);
    let far = Far::start(move |_, _| {
        if is_page.load(Ordering::SeqCst) {
            answer(
                "200 OK",
                "Content-Type: text/html\r\n",
                b"<html>sign in</html>",
            )
        } else {
            ok()
        }
    });
    let (stats, outcome) = forward(&stack, logs_to(at(&far)).0);
    let error = outcome.unwrap_err().to_string();
    assert!(
        error.contains("text/html") && error.contains("check the address"),
        "{error}"
    );
    assert_eq!((stats.sent(), far.requests().len()), (0, 5));
    page.store(false, Ordering::SeqCst);
    let (options, events) = logs_to(at(&far));
    assert_eq!(forwarded(&stack, options).sent(), 100);
    let resumed = ForwardEvent::Resumed {
        signal: Signal::Logs,
        records_max: 4096,
    };
    let events = events.all();
    assert!(
        format!("{events:?}").contains("Resumed"),
        "{events:?} {resumed:?}"
    );
}

#[test]
fn redirects_are_not_followed_and_credentials_stay() {
    let stack = Stack::with(100);
    let elsewhere = Far::start(|_, _| ok());
    let location = format!(
        "Location: http://{}/v1/logs?key=secret\r\n",
        elsewhere.address
    );
    let far = Far::start(move |_, _| answer("307 Temporary Redirect", &location, b""));
    let url = far.url().replace("http://", "http://me:secret@");
    let (_, outcome) = forward(&stack, logs_to(Endpoint::at(&url).unwrap()).0);
    let error = outcome.unwrap_err().to_string();
    assert!(
        error.contains(&format!("redirects to http://{}", elsewhere.address)),
        "{error}"
    );
    assert!(!error.contains("secret"), "{error}");
    assert_eq!(elsewhere.requests().len(), 0);
    assert_eq!(
        far.requests()[0].headers["authorization"],
        "Basic bWU6c2VjcmV0"
    );
    // The cursor file, which is named by the address, has no secret either.
    for entry in fs::read_dir(stack.folder().join("forward")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(!text.contains("secret"), "{text}");
    }
}

#[test]
fn a_wrong_certificate_ends_it_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let certified = |name: &str| {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let path = folder.path().join(name);
        fs::write(&path, made.cert.pem()).unwrap();
        (made, path)
    };
    let ((own, right), (_, wrong)) = (certified("right"), certified("wrong"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![own.cert.der().clone()],
            rustls::pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap(),
        )
        .unwrap();
    let config = Arc::new(config);
    let far = Far::accept(
        |_, _| ok(),
        move |stream| {
            let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            Ok(rustls::StreamOwned::new(session, stream))
        },
    );
    let stack = Stack::with(100);
    let url = format!("https://localhost:{}", far.address.port());
    let endpoint = Endpoint::at(&url)
        .unwrap()
        .header("authorization", "secret")
        .unwrap();
    let (stats, outcome) = forward(&stack, logs_to(endpoint.clone().authorities(wrong)).0);
    let error = outcome.unwrap_err().to_string();
    assert!(
        error.to_lowercase().contains("certificate") && !error.contains("secret"),
        "{error}"
    );
    assert_eq!((stats.sent(), far.requests().len()), (0, 0));
    assert_eq!(
        forwarded(&stack, logs_to(endpoint.authorities(right)).0).sent(),
        100
    );
}

#[test]
fn a_batch_that_is_too_large_is_split_down_to_one_record() {
    let stack = Stack::with(1000);
    let far = Far::start(|_, request: &Request| {
        let messages = messages(request);
        if messages.len() > 60
            || messages == ["7"]
            || (messages.len() > 1 && messages.contains(&"7".to_owned()))
        {
            answer("413 Payload Too Large", "", b"")
        } else {
            ok()
        }
    });
    let (options, events) = logs_to(at(&far));
    let stats = forwarded(&stack, options);
    assert_eq!((stats.sent(), stats.sum(|it| it.refused)), (999, 1));
    let refused = events
        .all()
        .iter()
        .filter(|it| matches!(it, ForwardEvent::Refused { records: 1, .. }))
        .count();
    assert_eq!(refused, 1);
}

#[test]
fn a_batch_that_is_refused_for_ever_is_kept_and_entered_in_the_ledger() {
    let stack = Stack::with(300);
    let far = Far::start(|_, _| {
        answer(
            "400 Bad Request",
            "Content-Type: text/plain\r\n",
            b"no such tenant \x1b[31m",
        )
    });
    let (options, events) = logs_to(at(&far));
    let stats = forwarded(&stack, options);
    assert_eq!(
        (
            stats.sent(),
            stats.sum(|it| it.refused),
            far.requests().len()
        ),
        (0, 300, 1)
    );
    let events = events.all();
    let [
        ForwardEvent::Refused {
            records: 300,
            reason,
            file: Some(file),
            ..
        },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert!(
        reason.contains("400 Bad Request: no such tenant"),
        "{reason}"
    );
    assert!(file.starts_with(stack.folder().join("refused")), "{file:?}");
    let kept = Request {
        body: fs::read(file).unwrap(),
        ..Request::default()
    };
    assert_eq!(messages(&kept), numbered(0..300));
    let ledger = stack.store.snapshot().unwrap().ledger(..).unwrap();
    let refused: Vec<u64> = (ledger.iter())
        .filter(|it| it.cause == LossCause::Refused)
        .map(|it| it.count)
        .collect();
    assert_eq!(refused, [300]);
    // It is not sent again.
    assert_eq!(
        forwarded(&stack, logs_to(at(&far)).0).sum(|it| it.refused),
        0
    );
    assert_eq!(far.requests().len(), 1);
}

#[test]
fn a_partial_success_is_counted_and_named() {
    let stack = Stack::with(300);
    let far = Far::start(|_, _| {
        let partial = ExportLogsPartialSuccess {
            rejected_log_records: 7,
            error_message: "too old".to_owned(),
        };
        let body = ExportLogsServiceResponse {
            partial_success: Some(partial),
        };
        answer("200 OK", "", &body.encode_to_vec())
    });
    let (options, events) = logs_to(at(&far));
    let stats = forwarded(&stack, options);
    assert_eq!((stats.sent(), stats.sum(|it| it.rejected)), (293, 7));
    let expected = |event: &ForwardEvent| matches!(event, ForwardEvent::Rejected { records: 7, message, .. } if message == "too old");
    assert!(events.all().iter().any(expected), "{:?}", events.all());
}

#[test]
fn an_endpoint_that_is_away_is_named_and_all_is_sent_when_it_is_back() {
    let stack = Stack::with(100);
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let endpoint = Endpoint::at(&format!("http://{port}")).unwrap();
    let cursor = stack.folder().join("cursor.json");
    let (options, _) = logs_to(endpoint);
    let (stats, outcome) = forward(
        &stack,
        options.cursor(&cursor).give_up_after(Duration::ZERO),
    );
    assert!(
        matches!(
            outcome,
            Err(ForwardError::Endpoint {
                signal: Signal::Logs,
                ..
            })
        ),
        "{outcome:?}"
    );
    assert_eq!(stats.sent(), 0);
    let far = Far::start(|_, _| ok());
    assert_eq!(
        forwarded(&stack, logs_to(at(&far)).0.cursor(&cursor)).sent(),
        100
    );
}

#[test]
fn it_stops_although_the_endpoint_does_not_answer() {
    let stack = Stack::with(100);
    let (asked, was_asked) = channel();
    let far = Far::start(move |number, _| {
        if number > 0 {
            return ok();
        }
        asked.send(()).unwrap();
        Reply::Never
    });
    // Longer than the test would wait.
    let endpoint = at(&far).timeout(Duration::from_secs(3600));
    let forwarder = Forwarder::start(&stack.store, logs_to(endpoint).0.follow(true)).unwrap();
    was_asked.recv_timeout(HANG).unwrap();
    let stats = forwarder.stop().unwrap();
    assert_eq!((stats.sent(), stats.sum(|it| it.in_flight)), (0, 100));
    // The next one says that these may be there twice.
    let (options, events) = logs_to(at(&far));
    assert_eq!(forwarded(&stack, options).sent(), 100);
    assert!(
        matches!(events.all()[..], [ForwardEvent::Resumed { .. }]),
        "{:?}",
        events.all()
    );
}

#[test]
fn a_cursor_of_another_database_or_forwarder_is_refused() {
    let (one, other) = (Stack::with(100), Stack::with(50));
    let far = Far::start(|_, _| ok());
    let cursor = one.folder().join("cursor.json");
    let options = || logs_to(at(&far)).0.cursor(&cursor);
    forwarded(&one, options());
    let refused = Forwarder::start(&other.store, options()).unwrap_err();
    let id = |stack: &Stack| {
        stack
            .store
            .snapshot()
            .unwrap()
            .database_id()
            .unwrap()
            .unwrap()
    };
    let ForwardError::OtherDatabase {
        found, expected, ..
    } = refused
    else {
        panic!("{refused}");
    };
    assert_eq!((found, expected), (id(&one), id(&other)));
    assert_eq!(forwarded(&other, options().anew(true)).sent(), 50);
    let github = gridctl_telemetry::ServerName::new("github").unwrap();
    let servers = Forwarder::start(&other.store, options().server(github)).unwrap_err();
    assert!(
        servers
            .to_string()
            .contains("it is about all servers, not about the servers github"),
        "{servers}"
    );
    let running = Forwarder::start(&other.store, options().follow(true)).unwrap();
    let second = Forwarder::start(&other.store, options()).unwrap_err();
    assert!(matches!(second, ForwardError::InUse { .. }), "{second}");
    running.stop().unwrap();
    for wrong in ["", "{}", "not json"] {
        fs::write(&cursor, wrong).unwrap();
        let error = Forwarder::start(&other.store, options()).unwrap_err();
        assert!(matches!(error, ForwardError::File(_)), "{error}");
    }
}

#[test]
fn a_cursor_that_cannot_be_stored_is_told_with_what_is_sent_twice() {
    let stack = Stack::with(100);
    let cursor = stack.home.path().join("cursor.json");
    let blocked = cursor.clone();
    let far = Far::start(move |_, _| {
        // As if the disk were full: no file can take the name of a folder.
        if blocked.is_file() {
            fs::remove_file(&blocked).unwrap();
            fs::create_dir(&blocked).unwrap();
        }
        ok()
    });
    let (options, events) = logs_to(at(&far));
    let (_, outcome) = forward(&stack, options.cursor(&cursor));
    let error = outcome.unwrap_err();
    assert!(
        matches!(error, ForwardError::Unsaved { records: 100, .. }),
        "{error}"
    );
    assert!(
        matches!(events.all()[..], [ForwardEvent::Failing { .. }]),
        "{:?}",
        events.all()
    );
    // Nothing was sent twice meanwhile.
    assert_eq!(far.requests().len(), 1);
    // A cursor that cannot be stored at all is known before anything is sent.
    let (options, _) = logs_to(at(&far));
    let error = Forwarder::start(&stack.store, options.cursor(&cursor)).unwrap_err();
    assert!(error.to_string().contains("cursor.json"), "{error}");
    assert_eq!(far.requests().len(), 1);
}
