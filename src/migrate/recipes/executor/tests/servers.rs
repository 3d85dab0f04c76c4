//! Tests of server metadata: valid answers, no answers, and invalid ones.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use super::harness::{Done, Given, migrate};
use super::old::{HOME, Old};
use groundskeeper_migrate::recipe::Network;

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
