//! The pages in a real browser: what a person does with them, and that no page has an error, runs what is in a
//! record, or asks for anything from elsewhere.
//!
//! Skipped where chromium or chromedriver is missing, unless `GRIDCTL_TELEMETRY_REQUIRE_BROWSER` is set.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod browser;

use browser::Browser;
use gridctl_telemetry::{
    Level, LogRecord, ServerName, SpanRecord, Store, StoreOptions, Timestamp, Writer, WriterGuard,
    WriterOptions,
    external::opentelemetry_proto::tonic::trace::v1::{Span, Status, status::StatusCode},
};
use gridctl_telemetry_server::{Server, ServerOptions, serve};
use tokio::{net::TcpListener, runtime::Runtime, sync::oneshot};

/// Sets a mark in the page if any of it runs.
const HTML: &str = "</span><img src=x onerror=\"window.ran=1\"><script>window.ran=1</script>";
const SECOND: i64 = 1_000_000_000;
const TRACE: u128 = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;
/// The key Enter of `WebDriver`.
const ENTER: &str = "\u{e007}";

/// A stack whose pages are served.
struct Site {
    origin: String,
    store: Store,
    writer: Writer,
    _guard: WriterGuard,
    _shutdown: oneshot::Sender<()>,
    _runtime: Runtime,
    _home: tempfile::TempDir,
}

fn name(name: &str) -> ServerName {
    ServerName::new(name).unwrap()
}

impl Site {
    /// 60 log records of the last minute, and a trace.
    fn start() -> Site {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path(), "shop", StoreOptions::default()).unwrap();
        let (writer, guard) = Writer::start(&store, WriterOptions::default()).unwrap();
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let options = ServerOptions::default().listen(address);
        let server = Server::new(store.clone(), writer.clone(), options).unwrap();
        let (shutdown, asked) = oneshot::channel::<()>();
        runtime.spawn(serve(listener, server, async { _ = asked.await }));
        let site = Site {
            origin: format!("http://{address}"),
            store,
            writer,
            _guard: guard,
            _shutdown: shutdown,
            _runtime: runtime,
            _home: home,
        };
        let now = Timestamp::now().unix_nanos();
        for number in 0..60 {
            let at = Timestamp::from_unix_nanos(now - (60 - number) * SECOND);
            let (server, level, said) = match number % 6 {
                0 => ("github", Level::ERROR, "connection refused"),
                1 => ("slack", Level::WARN, "slow answer"),
                _ => ("github", Level::INFO, "call completed"),
            };
            let record = LogRecord::new(at, level, format!("{said} {HTML} {number}"))
                .with("tool", HTML)
                .with("trace_id", format!("{TRACE:032x}"));
            site.log(server, &record);
        }
        for id in 1..=5_u64 {
            let start = (now - 30 * SECOND).unsigned_abs() + id * 1_000_000;
            let record = SpanRecord::new(Span {
                trace_id: TRACE.to_be_bytes().to_vec(),
                span_id: id.to_be_bytes().to_vec(),
                parent_span_id: match id {
                    1 => Vec::new(),
                    _ => 1_u64.to_be_bytes().to_vec(),
                },
                name: format!("step {id} {HTML}"),
                start_time_unix_nano: start,
                end_time_unix_nano: start + 50_000_000 / id,
                status: Some(Status {
                    code: if id == 3 {
                        StatusCode::Error
                    } else {
                        StatusCode::Ok
                    }
                    .into(),
                    message: HTML.into(),
                }),
                ..Span::default()
            });
            site.writer.span(&name("github"), &record).unwrap();
        }
        site.writer.flush().unwrap();
        site
    }

    fn log(&self, server: &str, record: &LogRecord) {
        self.writer.log(&name(server), record).unwrap();
    }

    fn address(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// Checks that nothing of a record ran, and that the browser has nothing to complain about.
    #[track_caller]
    fn assert_safe(&self, browser: &Browser) {
        assert_eq!(
            browser.script("return window.ran ?? null"),
            serde_json::Value::Null
        );
        browser.assert_quiet(&self.origin);
    }
}

const ROWS: &str = "document.querySelectorAll('[data-rows] > li').length";

#[test]
fn a_search_finds_records_whose_html_is_text() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let site = Site::start();
    browser.open(&site.address("/logs"));
    browser.wait(&format!("{ROWS} === 60"));
    // The key goes to the search, as the help says.
    browser.keys("/");
    browser.keys("refused");
    browser.keys(ENTER);
    browser.wait("location.search.includes('grep=refused')");
    browser.wait(&format!("{ROWS} === 10"));
    browser.click("[data-rows] summary");
    browser.wait("document.querySelector('[data-rows] details').open");
    let text = browser.script("return document.querySelector('.log-full').innerText");
    assert!(text.as_str().unwrap().contains(HTML), "{text}");
    site.assert_safe(&browser);
    // The address alone shows the same.
    let address = browser.address();
    browser.open("about:blank");
    browser.open(&address);
    browser.wait(&format!("{ROWS} === 10"));
    assert_eq!(
        browser.script("return document.querySelector('[data-search]').value"),
        "refused"
    );
}

#[test]
fn a_range_of_the_histogram_narrows_the_list() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let site = Site::start();
    browser.open(&site.address("/logs"));
    let [left, top, width, height] = browser.place("[data-selects] svg.chart-plot");
    let at = |share: i64| (left + width * share / 100, top + height / 2);
    browser.pointer(&[at(30), at(45), at(60)]);
    browser.wait("location.search.includes('since=') && location.search.includes('until=')");
    browser.wait(&format!("{ROWS} > 5 && {ROWS} < 40"));
    // A bar is a link as well, also without a script.
    let before = browser.address();
    let bar = "[...document.querySelectorAll('.chart-bar')].filter((bar) => bar.href)[2]";
    browser.wait(bar);
    browser.script(&format!(
        "{bar}.dispatchEvent(new MouseEvent('click', {{ bubbles: true, cancelable: true }}))"
    ));
    browser.wait(&format!("location.href !== {before:?}"));
    site.assert_safe(&browser);
}

#[test]
fn a_histogram_that_takes_long_comes_after_the_page() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let site = Site::start();
    let now = Timestamp::now().unix_nanos();
    for number in 0..20_000 {
        let at = Timestamp::from_unix_nanos(now - number * SECOND);
        site.log("github", &LogRecord::new(at, Level::INFO, "call completed"));
    }
    site.writer.flush().unwrap();
    browser.open(&site.address("/logs?grep=call"));
    // Whether it was counted in time or not, it is whole in the end, and a range of it can be selected.
    browser.wait("document.querySelector('.histogram') && !document.querySelector('[data-counts], .chart-note')");
    let [left, top, width, height] = browser.place("[data-selects] svg.chart-plot");
    let at = |share: i64| (left + width * share / 100, top + height / 2);
    browser.pointer(&[at(10), at(15), at(20)]);
    browser.wait("location.search.includes('since=') && location.pathname === '/logs'");
    site.assert_safe(&browser);
}

#[test]
fn a_trace_opens_from_a_record() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let site = Site::start();
    browser.open(&site.address("/logs"));
    browser.click("[data-rows] summary");
    browser.wait("document.querySelector('[data-rows] details').open");
    browser.click("[data-rows] details[open] a[href^='/traces/']");
    browser.wait("location.pathname.startsWith('/traces/')");
    browser.wait("document.querySelectorAll('.waterfall-record').length >= 5");
    let text = browser.script("return document.body.innerText");
    assert!(text.as_str().unwrap().contains("<script>"), "{text}");
    browser.open(&site.address("/traces"));
    browser.wait("document.querySelectorAll('tbody a[href^=\"/traces/\"]').length >= 1");
    for path in ["/", "/usage", "/ledger"] {
        browser.open(&site.address(path));
        browser.wait("document.querySelector('main')");
    }
    site.assert_safe(&browser);
}

#[test]
fn new_records_appear_by_themselves() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let site = Site::start();
    browser.open(&site.address("/logs?grep=fresh"));
    assert_eq!(browser.script(&format!("return {ROWS}")), 0);
    browser.open(&site.address("/logs?field=tool"));
    browser.wait(&format!("{ROWS} === 60"));
    browser.click("[data-live]");
    browser.wait("document.querySelector('[data-live]').getAttribute('aria-pressed') === 'true'");
    for number in 0..20 {
        let record = LogRecord::new(
            Timestamp::now(),
            Level::INFO,
            format!("fresh {HTML} {number}"),
        );
        site.log("github", &record.clone());
        site.log("github", &record.with("tool", "deploy"));
        site.writer.flush().unwrap();
    }
    // Only those that the search asks for, each once.
    browser.wait(&format!("{ROWS} === 80"));
    let first = browser.script("return document.querySelector('[data-rows] > li').innerText");
    assert!(first.as_str().unwrap().contains("fresh"), "{first}");
    browser.click("[data-live]");
    browser.wait("document.querySelector('[data-live]').getAttribute('aria-pressed') === 'false'");
    site.assert_safe(&browser);
}

#[test]
fn a_wipe_asks_and_deletes() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let site = Site::start();
    browser.open(&site.address("/wipe?server=slack&signal=logs"));
    browser.wait("document.querySelector('.question')");
    browser.click(".question a[href='/ledger']");
    browser.wait("location.pathname === '/ledger'");
    assert_eq!(site.store.snapshot().unwrap().servers().unwrap().len(), 2);

    browser.open(&site.address("/wipe?server=slack&signal=logs"));
    browser.click(".question button[type=submit]");
    browser.wait("location.pathname === '/ledger' && location.search.includes('wiped=1')");
    let left = site.store.snapshot().unwrap().servers().unwrap();
    assert_eq!(left, [name("github")]);
    site.assert_safe(&browser);
}
