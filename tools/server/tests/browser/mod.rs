//! A real browser, which tests drive through chromedriver.
//!
//! By hand, because the crates for `WebDriver` depend on the crate `webdriver`, whose licence (MPL) is none that
//! this project takes, and because the five commands that are needed here are a POST each.

use serde_json::{Value, json};
use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// With this variable set, a missing browser is a failure.
const REQUIRE: &str = "GRIDCTL_TELEMETRY_REQUIRE_BROWSER";
/// A test that waits longer than this has hung.
const HUNG: Duration = Duration::from_secs(60);
/// How often the page is asked for what a test waits for.
const ASK_INTERVAL: Duration = Duration::from_millis(20);

/// Several browsers at once would only compete for the processor.
static ONE: Mutex<()> = Mutex::new(());

/// A browser with one empty page and an empty profile.
pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
    profile: tempfile::TempDir,
    _one: MutexGuard<'static, ()>,
}

impl Browser {
    /// Starts the browser; `None` if there is none and none is required.
    pub(crate) fn start() -> Option<Browser> {
        let (Some(driver), Some(_)) = (program("chromedriver"), program("chromium")) else {
            assert!(
                env::var_os(REQUIRE).is_none(),
                "{REQUIRE} is set, but chromium or chromedriver is missing: install both"
            );
            eprintln!("skipped: chromium or chromedriver is missing");
            return None;
        };
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut driver = Command::new(driver)
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(driver.stdout.take().unwrap());
        let mut lines = output.lines();
        let port = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                let port = line.split_once("successfully on port ")?.1;
                port.trim_end_matches('.').parse().ok()
            })
            .unwrap();
        // A full pipe would stop it.
        thread::spawn(move || lines.for_each(drop));
        let mut browser = Browser {
            driver,
            port,
            session: String::new(),
            profile: tempfile::tempdir().unwrap(),
            _one: one,
        };
        let profile = browser.profile.path().display().to_string();
        let session = browser.ask(
            "POST",
            "/session",
            &json!({ "capabilities": { "alwaysMatch": {
                "browserName": "chrome",
                "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
                "goog:chromeOptions": {
                    "binary": program("chromium").unwrap(),
                    "args": [
                        "--headless",
                        "--no-sandbox",
                        "--disable-gpu",
                        "--disable-quic",
                        "--disable-dev-shm-usage",
                        "--no-first-run",
                        "--disable-background-networking",
                        "--disable-component-update",
                        "--disable-sync",
                        "--window-size=1280,1000",
                        format!("--user-data-dir={profile}"),
                    ],
                },
            } } }),
        );
        session["sessionId"]
            .as_str()
            .unwrap()
            .clone_into(&mut browser.session);
        Some(browser)
    }

    /// Opens a page and waits until it is loaded.
    pub(crate) fn open(&self, address: &str) {
        self.command("/url", &json!({ "url": address }));
    }

    /// What a script in the page returns.
    pub(crate) fn script(&self, script: &str) -> Value {
        self.command("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Waits until an expression in the page is true.
    #[track_caller]
    pub(crate) fn wait(&self, expression: &str) {
        let until = Instant::now() + HUNG;
        loop {
            // While another page is loading, there may be no document to ask.
            let script =
                format!("return document.readyState === 'complete' && Boolean({expression})");
            if self.script(&script) == true {
                return;
            }
            assert!(
                Instant::now() < until,
                "never true: {expression}; the page {} has the text {}",
                self.address(),
                self.script("return document.body.innerText")
            );
            thread::sleep(ASK_INTERVAL);
        }
    }

    /// The address of the page.
    pub(crate) fn address(&self) -> String {
        let address = self.script("return location.href");
        address.as_str().unwrap().to_owned()
    }

    /// Clicks where the first element of `selector` is.
    pub(crate) fn click(&self, selector: &str) {
        let (x, y) = self.middle(selector);
        self.pointer(&[(x, y)]);
    }

    /// Presses the pointer at the first place, and releases it at the last one.
    pub(crate) fn pointer(&self, places: &[(i64, i64)]) {
        let step =
            |(x, y): &(i64, i64)| json!({ "type": "pointerMove", "duration": 50, "x": x, "y": y });
        let mut actions: Vec<Value> = places.iter().map(step).collect();
        actions.insert(1, json!({ "type": "pointerDown", "button": 0 }));
        actions.push(json!({ "type": "pointerUp", "button": 0 }));
        let source = json!({
            "type": "pointer",
            "id": "mouse",
            "parameters": { "pointerType": "mouse" },
            "actions": actions,
        });
        self.command("/actions", &json!({ "actions": [source] }));
    }

    /// Types text as if on a keyboard.
    pub(crate) fn keys(&self, text: &str) {
        let actions: Vec<Value> = text
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key })))
            .collect();
        let source = json!({ "type": "key", "id": "keyboard", "actions": actions });
        self.command("/actions", &json!({ "actions": [source] }));
    }

    /// The middle of an element that is scrolled into view.
    #[track_caller]
    pub(crate) fn middle(&self, selector: &str) -> (i64, i64) {
        let [left, top, width, height] = self.place(selector);
        (left + width / 2, top + height / 2)
    }

    /// Left, top, width and height of an element that is scrolled into view.
    #[track_caller]
    pub(crate) fn place(&self, selector: &str) -> [i64; 4] {
        let place = self.script(&format!(
            "const found = document.querySelector({});
             if (!found) return null;
             found.scrollIntoView({{ block: 'center', behavior: 'instant' }});
             const box = found.getBoundingClientRect();
             return [box.left, box.top, box.width, box.height].map(Math.round);",
            json!(selector)
        ));
        let Some(place) = place.as_array() else {
            panic!("there is no {selector} at {}", self.address());
        };
        [0, 1, 2, 3].map(|index| place[index].as_i64().unwrap())
    }

    /// Checks that no page had an error so far, and that none asked for anything beyond `origin`.
    #[track_caller]
    pub(crate) fn assert_quiet(&self, origin: &str) {
        let console = self.command("/se/log", &json!({ "type": "browser" }));
        let is_error = |entry: &&Value| entry["level"] == "SEVERE" || entry["level"] == "WARNING";
        let errors: Vec<&Value> = console
            .as_array()
            .unwrap()
            .iter()
            .filter(is_error)
            .collect();
        assert!(errors.is_empty(), "{errors:?}");
        let events = self.command("/se/log", &json!({ "type": "performance" }));
        let mut requests = 0;
        for event in events.as_array().unwrap() {
            let event: Value = serde_json::from_str(event["message"].as_str().unwrap()).unwrap();
            let event = &event["message"];
            if event["method"] == "Network.requestWillBeSent" {
                let url = event["params"]["request"]["url"].as_str().unwrap();
                // The browser begins with a page of its own.
                if url.starts_with("chrome://") {
                    continue;
                }
                assert!(url.starts_with(origin) || url.starts_with("data:"), "{url}");
                requests += 1;
            }
        }
        assert!(requests > 0, "no request was noted");
    }

    fn command(&self, path: &str, body: &Value) -> Value {
        self.ask("POST", &format!("/session/{}{path}", self.session), body)
    }

    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.send(method, path, body);
        assert!(answer["value"]["error"].is_null(), "{path}: {answer}");
        answer["value"].clone()
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(HUNG)).unwrap();
        let body = body.to_string();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap();
            }
        }
        let mut answer = vec![0; length];
        reader.read_exact(&mut answer).unwrap();
        serde_json::from_slice(&answer).unwrap()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser ends with its session, and the driver does not end it otherwise.
        if !self.session.is_empty() && !thread::panicking() {
            self.send("DELETE", &format!("/session/{}", self.session), &json!({}));
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let mut places = env::split_paths(&path).map(|folder| folder.join(name));
    places.find(|place| place.is_file())
}
