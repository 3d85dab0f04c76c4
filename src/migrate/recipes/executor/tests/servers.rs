//! Tests of server metadata: valid answers, no answers, and invalid ones.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::harness::{Done, Given, migrate};
use super::old::{HOME, Old};
use crate::discovery::{Described, Discovery, Limits};
use crate::losses::Losses;
use crate::plan::{self, Context};
use crate::snapshot;
use groundskeeper_migrate::recipe::{Network, OnConflict, SharedNetwork};

/// A network with a few pages, which records requests and their time limits.
struct Pages {
    by_url: BTreeMap<&'static str, &'static str>,
    limits: RefCell<Vec<Duration>>,
    asked: RefCell<Vec<String>>,
}

impl Network for Pages {
    fn get(&self, url: &str, limit: Duration) -> Option<Vec<u8>> {
        self.limits.borrow_mut().push(limit);
        self.asked.borrow_mut().push(url.to_owned());
        self.by_url.get(url).map(|page| page.as_bytes().to_vec())
    }
}

fn asked(old: &Old, pages: &[(&'static str, &'static str)]) -> (Done, Pages) {
    let network = Pages {
        by_url: pages.iter().copied().collect(),
        limits: RefCell::default(),
        asked: RefCell::default(),
    };
    let given = Given { tenant: HOME, network: Some(&network), ..Given::default() };
    let done = migrate(&old.db, &given).expect("migrated");
    (done, network)
}

fn connected(state: &str) -> Old {
    let old = Old::new();
    let config = r#"{"config":{"transport":"remote","endpoint":"https://m.test/mcp","auth":{"kind":"oauth2","connectionSlot":"auth:oauth2:connection"}}}"#;
    old.configured(HOME, "m", "mcp", config).connection(HOME, "c", "me", state);
    old.binding(HOME, "m", "auth:oauth2:connection", "connection", [None, Some("c"), None]);
    old
}

const STATE: &str =
    r#"{"clientId":"C","tokenEndpoint":"https://l.test/token","resource":"https://old.test"}"#;

#[test]
fn server_metadata_sets_resource_and_url() {
    let (done, network) = asked(
        &connected(STATE),
        &[
            ("https://m.test/.well-known/oauth-protected-resource/mcp", "not JSON"),
            (
                "https://m.test/.well-known/oauth-protected-resource",
                r#"{"resource":"https://m.test/","authorization_servers":["https://as.test/x/"]}"#,
            ),
            (
                "https://as.test/.well-known/openid-configuration/x",
                r#"{"authorization_endpoint":"https://as.test/go"}"#,
            ),
        ],
    );
    assert_eq!(done.column("oauth_client", "resource"), ["https://m.test/"]);
    assert_eq!(done.column("oauth_client", "authorization_url"), ["https://as.test/go"]);
    assert!(network.limits.borrow().iter().all(|limit| *limit <= Duration::from_secs(10)));
}

#[test]
fn metadata_url_is_fetched_once_first() {
    let state = r#"{"clientId":"C","tokenEndpoint":"https://l.test/token","authorizationServerMetadataUrl":" https://as.test/meta "}"#;
    let page = ("https://as.test/meta", r#"{"authorization_endpoint":"http://localhost:1/go"}"#);
    let (done, network) = asked(&connected(state), &[page]);
    assert_eq!(done.column("oauth_client", "authorization_url"), ["http://localhost:1/go"]);
    let times = network.asked.borrow().iter().filter(|url| *url == "https://as.test/meta").count();
    assert_eq!(times, 1);
}

#[test]
fn invalid_metadata_is_ignored() {
    for page in [
        r#"{"resource":"https://elsewhere.test/mcp"}"#,
        r#"{"resource":"https://m.test/mcpx"}"#,
        r#"["https://m.test"]"#,
        r#"{"resource":5}"#,
    ] {
        let (done, _) = asked(
            &connected(STATE),
            &[
                ("https://m.test/.well-known/oauth-protected-resource/mcp", page),
                (
                    "https://l.test/.well-known/oauth-authorization-server/authorize",
                    r#"{"authorization_endpoint":"http://evil.test/"}"#,
                ),
            ],
        );
        assert_eq!(done.column("oauth_client", "resource"), ["https://old.test"], "{page}");
        assert_eq!(done.column("oauth_client", "authorization_url"), ["https://l.test/authorize"]);
    }
}

/// A network for other threads. Servers of the domain `hang` never answer, those of `gone` have no
/// name, and a lookup in `lost` never ends. All others say where users authorize, once the gate is
/// open.
#[derive(Clone)]
struct Shared {
    gate: Arc<Mutex<Receiver<()>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Shared {
    /// Returns a network with a closed gate, and what opens it when it is dropped.
    fn closed() -> (Self, Sender<()>) {
        let (opener, gate) = channel();
        (Self { gate: Arc::new(Mutex::new(gate)), asked: Arc::default() }, opener)
    }

    fn open() -> Self {
        Self::closed().0
    }

    /// Waits as long as a request that gets no answer.
    fn hang(limit: Duration) {
        let (kept, never) = channel::<()>();
        never.recv_timeout(limit).unwrap_or_default();
        drop(kept);
    }
}

impl Network for Shared {
    fn get(&self, url: &str, limit: Duration) -> Option<Vec<u8>> {
        self.asked.lock().expect("a list").push(url.to_owned());
        if url.contains(".hang/") {
            Self::hang(limit);
            return None;
        }
        // It ends as soon as nothing can be sent any more, which is what the test waits for.
        self.gate.lock().expect("a gate").recv().unwrap_or_default();
        let host = url.split('/').nth(2).unwrap_or_default();
        Some(format!("{{\"authorization_endpoint\":\"https://{host}/go\"}}").into_bytes())
    }

    fn resolves(&self, url: &str, limit: Duration) -> bool {
        if url.contains(".lost/") {
            Self::hang(limit);
        }
        !url.contains(".gone/") && !url.contains(".lost/")
    }

    fn shared(&self) -> Option<SharedNetwork> {
        Some(Arc::new(self.clone()))
    }
}

/// Asks about one client for each server, and returns the answers and the time they took.
fn described(network: &Shared, hosts: &[String], limits: Limits) -> (Vec<Described>, Duration) {
    let old = Old::new();
    for (n, host) in hosts.iter().enumerate() {
        let (id, state) = (
            format!("c{n:03}"),
            format!(r#"{{"clientId":"{n}","authorizationEndpoint":"https://{host}/x"}}"#),
        );
        old.connection(HOME, &id, "me", &state);
        old.binding(HOME, &format!("s{n:03}"), "c", "connection", [None, Some(&id), None]);
    }
    let losses = Losses::default();
    let snapshot = snapshot::read(&old.db, &losses).expect("a snapshot");
    let conflicts = OnConflict::Refuse;
    let context = Context { tenant: HOME, now_ms: 1, conflicts, losses: &losses };
    let plan = plan::make(&snapshot, &context).expect("a plan");
    let begun = Instant::now();
    let discovery = Discovery::start(network, &snapshot, &plan.clients, limits);
    (discovery.answers(), begun.elapsed())
}

fn urls(described: &[Described]) -> Vec<Option<&str>> {
    described.iter().map(|client| client.authorization_url.as_deref()).collect()
}

/// Servers are asked while the database is built: here the build ends before any may answer.
#[test]
fn servers_are_asked_beside_the_build() {
    let old = connected(STATE);
    let (network, opener) = Shared::closed();
    let given = Given { tenant: HOME, network: Some(&network), ..Given::default() };
    // The last table that is written opens the gate; one after another this would never end.
    let opener = RefCell::new(Some(opener));
    let done = super::harness::migrate_with(&old.db, &given, &|what, _| {
        if what == "tool_policy" {
            drop(opener.take());
        }
    });
    let done = done.expect("migrated");
    assert_eq!(done.column("oauth_client", "authorization_url"), ["https://l.test/go"]);
}

/// Hanging servers take the budget once, whatever their number, and cost no other answer.
#[test]
fn hanging_servers_take_one_budget() {
    let mut hosts: Vec<String> = (0..60).map(|n| format!("a{n}.hang")).collect();
    hosts.push("b.test".to_owned());
    let budget = Duration::from_millis(900);
    let limits = Limits { budget, request: Duration::from_millis(300), ..Limits::default() };
    let (found, took) = described(&Shared::open(), &hosts, limits);
    // One after another they would take 18 s; the bound leaves room for a busy machine.
    assert!(took < 5 * budget, "{took:?}");
    assert_eq!(found.len(), 61);
    let all = Duration::from_secs(60);
    let request = Duration::from_millis(100);
    let grace = Duration::from_millis(20);
    let limits = Limits { budget: all, request, grace, ..limits };
    let network = Shared::open();
    let (found, _) = described(&network, &hosts, limits);
    assert_eq!(urls(&found).last(), Some(&Some("https://b.test/go")));
    let asked = network.asked.lock().expect("a list").len();
    assert_eq!(asked, 61, "a server that hangs is asked once");
}

/// A network in which no name exists is an answer, even while one lookup goes on.
#[test]
fn missing_network_costs_hardly_any_time() {
    let limits = Limits { budget: Duration::from_secs(60), ..Limits::default() };
    let gone: Vec<String> = (0..30).map(|n| format!("a{n}.gone")).collect();
    let network = Shared::open();
    let (found, took) = described(&network, &gone, limits);
    assert!(took < limits.request / 2, "{took:?}");
    assert!(
        urls(&found).iter().all(Option::is_none)
            && network.asked.lock().expect("a list").is_empty()
    );
    let lost: Vec<String> = gone.iter().cloned().chain(["x.lost".to_owned()]).collect();
    let (_, took) = described(&Shared::open(), &lost, limits);
    assert!(took < limits.request / 2, "{took:?}");
    let silent: Vec<String> = (0..3).map(|n| format!("a{n}.lost")).collect();
    let (_, took) = described(&Shared::open(), &silent, limits);
    assert!(took >= limits.quiet && took < limits.request, "{took:?}");
    // A server that exists is waited for, although the others have no name.
    let mixed: Vec<String> = ["a.gone", "b.test", "c.hang"].map(str::to_owned).to_vec();
    let limits = Limits { request: Duration::from_millis(400), ..limits };
    let (found, took) = described(&Shared::open(), &mixed, limits);
    assert_eq!(urls(&found), [None, Some("https://b.test/go"), None]);
    assert!(took >= limits.request, "{took:?}");
}
