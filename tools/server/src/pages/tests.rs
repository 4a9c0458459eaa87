//! Whole pages, as a browser without script gets them.

use crate::{Server, ServerOptions, router};
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{
        Request, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, COOKIE, HOST, LOCATION, SET_COOKIE},
        response,
    },
};
use gridctl_telemetry::{
    Level, LogRecord, ServerName, Store, StoreOptions, Timestamp, Value, Writer, WriterGuard,
    WriterOptions,
};
use tower::ServiceExt;

/// All pages that take no id.
const PAGES: [&str; 6] = ["/", "/logs", "/traces", "/usage", "/ledger", "/wipe"];

/// A store and its pages.
pub(super) struct Site {
    router: Router,
    store: Store,
    pub(super) writer: Writer,
    guard: WriterGuard,
    home: tempfile::TempDir,
}

impl Site {
    pub(super) fn new() -> Site {
        Site::in_home(tempfile::tempdir().unwrap())
    }

    fn in_home(home: tempfile::TempDir) -> Site {
        let store = Store::open(home.path(), "shop", StoreOptions::default()).unwrap();
        let (writer, guard) = Writer::start(&store, WriterOptions::default()).unwrap();
        let server = Server::new(store.clone(), writer.clone(), ServerOptions::default()).unwrap();
        Site {
            router: router(&server),
            store,
            writer,
            guard,
            home,
        }
    }

    fn log(&self, server: &str, record: &LogRecord) {
        let server = ServerName::new(server).unwrap();
        self.writer.log(&server, record).unwrap();
    }

    /// Logs so many records, one a second, the newest now.
    fn log_each_second(&self, count: i64) {
        let now = Timestamp::now().unix_nanos();
        for number in 0..count {
            let at = Timestamp::from_unix_nanos(now - (count - number) * 1_000_000_000);
            self.log(
                "github",
                &LogRecord::new(at, Level::INFO, format!("record {number};")),
            );
        }
        self.writer.flush().unwrap();
    }

    async fn send(&self, request: Request<Body>) -> (response::Parts, String) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        (parts, String::from_utf8(body.to_vec()).unwrap())
    }

    pub(super) async fn get(&self, address: &str) -> (StatusCode, String) {
        let request = Request::get(address).header(HOST, "localhost:4318");
        let (parts, body) = self.send(request.body(Body::empty()).unwrap()).await;
        (parts.status, body)
    }

    async fn post(&self, address: &str, form: String) -> (response::Parts, String) {
        let request = Request::post(address)
            .header(HOST, "localhost:4318")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request.body(Body::from(form)).unwrap()).await
    }
}

/// The value of an attribute, after the first place where `before` is.
pub(super) fn attribute(page: &str, before: &str, name: &str) -> Option<String> {
    let (_, rest) = page.split_once(before)?;
    let (_, rest) = rest.split_once(&format!("{name}=\""))?;
    let (value, _) = rest.split_once('"')?;
    Some(value.replace("&amp;", "&"))
}

#[tokio::test]
async fn a_stack_without_records_says_how_to_send_some() {
    let site = Site::new();
    for page in PAGES {
        let (status, body) = site.get(page).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        assert!(body.contains("shop"), "{page}");
    }
    for page in ["/", "/logs"] {
        let (_, body) = site.get(page).await;
        assert!(body.contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{page}");
    }
    let (_, body) = site.get("/wipe").await;
    assert!(body.contains("Nothing to wipe"));
}

#[tokio::test]
async fn every_page_answers_for_many_servers_with_long_names() {
    let site = Site::new();
    let name = |number: usize| format!("{number}-{}", "long".repeat(30));
    for number in 0..200 {
        let record = LogRecord::new(Timestamp::now(), Level::WARN, "x".repeat(100_000));
        site.log(&name(number), &record);
    }
    site.writer.flush().unwrap();
    for page in PAGES {
        let (status, body) = site.get(page).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        assert!(body.len() < 6 << 20, "{page}: {} bytes", body.len());
    }
    let (_, body) = site.get("/").await;
    for number in 0..200 {
        assert!(body.contains(&name(number)), "{number}");
    }
    let (_, body) = site.get("/logs?limit=1000").await;
    assert!(body.contains("84000 more characters"));
}

#[tokio::test]
async fn every_page_answers_for_a_damaged_store() {
    let site = Site::new();
    site.log_each_second(5000);
    let path = site.store.path();
    let Site {
        home,
        guard,
        store,
        writer,
        router,
    } = site;
    guard.close().unwrap();
    drop((store, writer, router));
    let mut bytes = std::fs::read(&path).unwrap();
    let message = b"record ";
    let places: Vec<usize> = bytes
        .windows(message.len())
        .enumerate()
        .filter(|(_, window)| window == message)
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty());
    for place in places {
        bytes[place] ^= 0xff;
    }
    std::fs::write(&path, bytes).unwrap();
    let site = Site::in_home(home);
    for page in PAGES {
        let (status, body) = site.get(page).await;
        assert_eq!(status, StatusCode::OK, "{page}\n{body}");
    }
    let (_, body) = site.get("/logs").await;
    assert!(body.contains("cannot be read, and its records are missing here"));
}

#[tokio::test]
async fn records_full_of_html_are_text() {
    let site = Site::new();
    let evil = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>";
    let record = LogRecord::new(Timestamp::now(), Level::ERROR, evil)
        .with(evil, evil)
        .with("nested", Value::Object(vec![(evil.into(), evil.into())]));
    site.log("<b>'\"&", &record);
    site.writer.flush().unwrap();
    let filters = [
        String::new(),
        "?grep=script".into(),
        "?grep=%22%3E%3Cscript%3E&fixed-strings=true".into(),
        "?field=%3Cscript%3E".into(),
        "?server=%3Cscript%3Ealert(1)%3C%2Fscript%3E".into(),
        "?since=%22%3E%3Cscript%3E".into(),
        "?%3Cscript%3E=1".into(),
    ];
    let logs = filters.iter().map(|filter| format!("/logs{filter}"));
    let pages = PAGES.map(str::to_owned).into_iter().chain(logs);
    for page in pages.chain(["/wipe?server=%3Cscript%3E".into(), "/%3Cscript%3E".into()]) {
        let (_, body) = site.get(&page).await;
        for forbidden in ["<script>", "<img", "<b>", "\"'>"] {
            assert!(!body.contains(forbidden), "{page}: {forbidden}\n{body}");
        }
    }
    let (_, body) = site.get("/logs").await;
    assert!(body.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    // The links of a hostile attribute lead to it, and to nothing else.
    let (_, found) = site.get("/logs?grep=alert").await;
    assert!(found.contains("1 record"));
}

#[tokio::test]
async fn pages_need_no_inline_script_or_style() {
    let site = Site::new();
    site.log_each_second(3);
    for page in PAGES {
        let (_, body) = site.get(page).await;
        for forbidden in [
            " style=\"",
            "<style",
            " onclick=",
            "javascript:",
            "http-equiv",
        ] {
            assert!(!body.contains(forbidden), "{page}: {forbidden}");
        }
        for script in body.split("<script").skip(1) {
            assert!(script.starts_with(" src=\"/assets/script-"), "{page}");
        }
        for elsewhere in ["src=\"http", "href=\"http", "src=\"//", "href=\"//"] {
            assert!(!body.contains(elsewhere), "{page}: {elsewhere}");
        }
        assert_eq!(body.matches("<h1").count(), 1, "{page}");
        for landmark in ["<main", "<nav", "<footer", "<header", "lang=\"en\""] {
            assert!(body.contains(landmark), "{page}: {landmark}");
        }
    }
}

#[tokio::test]
async fn assets_may_be_kept_because_their_address_has_a_hash() {
    let site = Site::new();
    let (_, body) = site.get("/").await;
    let style = attribute(&body, "rel=\"stylesheet\"", "href").unwrap();
    let script = attribute(&body, "<script", "src").unwrap();
    for (address, media_type) in [(&style, "text/css"), (&script, "text/javascript")] {
        let request = Request::get(address).header(HOST, "localhost:4318");
        let (parts, _) = site.send(request.body(Body::empty()).unwrap()).await;
        let header = |name| parts.headers[name].to_str().unwrap();
        assert_eq!(parts.status, StatusCode::OK);
        assert!(header(CONTENT_TYPE).starts_with(media_type));
        assert!(header(CACHE_CONTROL).contains("immutable"));
    }
    let (status, _) = site.get("/assets/style-0.css").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_wrong_parameter_is_named_and_what_was_typed_stays() {
    let site = Site::new();
    site.log_each_second(1);
    for (address, kept) in [
        ("/logs?grep=(oops", "value=\"(oops\""),
        ("/logs?field=a%3Eb", "value=\"a&gt;b\""),
        ("/logs?level=loud", "value=\"loud\""),
        ("/logs?since=soon", "value=\"soon\""),
    ] {
        let (status, body) = site.get(address).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{address}");
        assert!(body.contains("role=\"alert\""), "{address}");
        assert!(body.contains(kept), "{address}\n{body}");
    }
    let (status, body) = site.get("/wipe?until=soon").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.contains("until"));
    let (status, body) = site.get("/nowhere").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(body.contains("/nowhere"));
}

/// The numbers of the records on a page.
fn numbers(page: &str) -> Vec<u32> {
    let lines = page.split("log-full\">record ").skip(1);
    lines
        .map(|rest| rest.split_once(';').unwrap().0.parse().unwrap())
        .collect()
}

#[tokio::test]
async fn pages_lead_through_all_records_and_back() {
    let site = Site::new();
    site.log_each_second(25);
    for direction in ["", "&direction=forward"] {
        let mut address = format!("/logs?limit=10{direction}");
        let mut pages = Vec::new();
        loop {
            let (_, body) = site.get(&address).await;
            pages.push((address, numbers(&body)));
            match attribute(&body, "rel=\"next\"", "href") {
                Some(next) => address = next,
                None => break,
            }
        }
        let mut all: Vec<u32> = pages.iter().flat_map(|(_, page)| page.clone()).collect();
        if direction.is_empty() {
            all.reverse();
        }
        assert_eq!(all, (0..25).collect::<Vec<_>>(), "{direction}");
        assert_eq!(pages.len(), 3);
        // Back from the last page: the same records in the same order.
        let (_, last) = site.get(&pages[2].0).await;
        let before = attribute(&last, "rel=\"prev\"", "href").unwrap();
        let (_, second) = site.get(&before).await;
        assert_eq!(numbers(&second), pages[1].1);
        let before = attribute(&second, "rel=\"prev\"", "href").unwrap();
        let (_, first) = site.get(&before).await;
        assert_eq!(numbers(&first), pages[0].1);
        assert_eq!(attribute(&first, "rel=\"prev\"", "href"), None);
    }
}

#[tokio::test]
async fn each_bar_leads_to_its_records() {
    let site = Site::new();
    site.log_each_second(300);
    let (_, body) = site.get("/logs").await;
    let mut found = 0;
    for bar in body.split("<a class=\"chart-bar\"").skip(1) {
        let href = attribute(bar, "", "href").unwrap();
        let (status, page) = site.get(&format!("{href}&limit=1000")).await;
        assert_eq!(status, StatusCode::OK, "{href}");
        found += numbers(&page).len();
    }
    assert_eq!(found, 300);
}

#[tokio::test]
async fn a_wipe_asks_and_needs_the_token_of_the_page() {
    let site = Site::new();
    site.log_each_second(5);
    site.log(
        "slack",
        &LogRecord::new(Timestamp::now(), Level::INFO, "stays"),
    );
    site.writer.flush().unwrap();
    let (_, body) = site.get("/wipe?server=github&until=now").await;
    assert!(body.contains("Delete all of this permanently?"));
    let token = attribute(&body, "name=\"page_token\"", "value").unwrap();
    let until = attribute(&body, "type=\"hidden\" name=\"until\"", "value").unwrap();
    assert!(until.contains('T'), "{until}");
    for wrong in ["", "page_token=0", "page_token="] {
        let (parts, body) = site.post("/wipe", format!("server=github&{wrong}")).await;
        assert_eq!(parts.status, StatusCode::FORBIDDEN, "{wrong}");
        assert!(body.contains("<main"), "{wrong}");
    }
    assert_eq!(numbers(&site.get("/logs").await.1).len(), 5);
    let form = format!("page_token={token}&server=github&until={until}");
    let (parts, _) = site.post("/wipe", form).await;
    assert_eq!(parts.status, StatusCode::SEE_OTHER);
    assert_eq!(parts.headers[LOCATION], "/ledger?wiped=1");
    let (_, body) = site.get("/ledger?wiped=1").await;
    assert!(body.contains("1 series was wiped."));
    let (_, body) = site.get("/logs").await;
    assert!(numbers(&body).is_empty() && body.contains("stays"));
}

#[tokio::test]
async fn a_page_of_records_that_were_wiped_says_so() {
    let site = Site::new();
    site.log_each_second(20);
    let (_, body) = site.get("/logs?limit=10").await;
    let next = attribute(&body, "rel=\"next\"", "href").unwrap();
    let everything = gridctl_telemetry::maintenance::WipeScope::everything();
    site.writer.wipe(&everything).unwrap();
    let (status, body) = site.get(&next).await;
    assert_eq!(status, StatusCode::OK);
    assert!(body.contains("No log records match") || body.contains("No records yet"));
}

#[tokio::test]
async fn colours_are_chosen_without_a_script() {
    let site = Site::new();
    for (back, location) in [
        ("/logs%3Fgrep%3Da", "/logs?grep=a"),
        ("//elsewhere", "/"),
        ("/%5Celsewhere", "/"),
        ("https%3A%2F%2Felsewhere", "/"),
        ("/%0d%0aSet-Cookie%3Aa", "/"),
    ] {
        let (parts, _) = site.post("/theme", format!("theme=dark&back={back}")).await;
        assert_eq!(parts.status, StatusCode::SEE_OTHER);
        assert_eq!(parts.headers[LOCATION], location);
        let cookie = parts.headers[SET_COOKIE].to_str().unwrap();
        assert!(cookie.starts_with("theme=dark;"));
    }
    let request = Request::get("/")
        .header(HOST, "localhost:4318")
        .header(COOKIE, "a=b; theme=dark");
    let (_, body) = site.send(request.body(Body::empty()).unwrap()).await;
    assert!(body.contains("<html lang=\"en\" data-theme=\"dark\">"));
}

#[tokio::test]
async fn a_database_that_is_away_is_said_in_words() {
    let site = Site::new();
    site.log_each_second(1);
    let folder = site.store.path().parent().unwrap().to_owned();
    let away = site.home.path().join("away");
    std::fs::rename(&folder, &away).unwrap();
    std::fs::write(&folder, "not a folder").unwrap();
    for page in PAGES {
        let (status, body) = site.get(page).await;
        assert!(status.is_server_error(), "{page}: {status}");
        assert!(body.contains("The store cannot be read"), "{page}\n{body}");
    }
    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(&away, &folder).unwrap();
    let (status, _) = site.get("/logs").await;
    assert_eq!(status, StatusCode::OK);
}
