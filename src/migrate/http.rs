//! Network access of a migration: a small `GET` for a server's description, and nothing else.
//!
//! It supports HTTP and HTTPS only, checks certificates, follows at most three redirects and none
//! from HTTPS to HTTP, and reads at most one mebibyte. An error yields no response.

use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use ureq::http::Uri;
use ureq::{Agent, Proxy};

use crate::recipe::{Network, SharedNetwork};

/// Largest body of a response, in bytes.
const BODY_BYTES_MAX: u64 = 1_024 * 1_024;
/// Largest number of redirects that are followed.
const REDIRECTS_MAX: u32 = 3;
/// Shortest timeout with which a request is sent at all.
const LIMIT_MIN: Duration = Duration::from_millis(50);
/// Longest time for resolving a name.
const LOOKUP_LIMIT: Duration = Duration::from_secs(2);
/// Time after which a name is looked up once more; it doubles each time. The system's resolver
/// repeats a question that was lost only after seconds.
const LOOKUP_AGAIN: Duration = Duration::from_millis(100);

/// Access to the network of this machine.
#[derive(Debug, Clone, Default)]
pub struct Http;

/// No network: every request yields no response.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoNetwork;

impl Network for Http {
    fn get(&self, url: &str, limit: Duration) -> Option<Vec<u8>> {
        let uri: Uri = url.parse().ok()?;
        let encrypted = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        if limit < LIMIT_MIN {
            return None;
        }
        let agent: Agent = Agent::config_builder()
            .timeout_global(Some(limit))
            .max_redirects(REDIRECTS_MAX)
            // A redirect must not lead an encrypted request to clear text.
            .https_only(encrypted)
            .user_agent(concat!("groundskeeper/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        let request = agent.get(uri).header("accept", "application/json");
        let mut answer = request.call().ok()?;
        if !answer.status().is_success() {
            return None;
        }
        answer.body_mut().with_config().limit(BODY_BYTES_MAX).read_to_vec().ok()
    }

    fn resolves(&self, url: &str, limit: Duration) -> bool {
        let Some((host, port)) = server(url) else { return false };
        // A proxy resolves names itself.
        if host.parse::<IpAddr>().is_ok() || Proxy::try_from_env().is_some() {
            return true;
        }
        let until = Instant::now() + limit.min(LOOKUP_LIMIT);
        let (found, answer) = channel();
        let mut again = LOOKUP_AGAIN;
        loop {
            if !look_up(&host, port, &found) {
                return false;
            }
            let left = until.saturating_duration_since(Instant::now());
            match answer.recv_timeout(left.min(again)) {
                Ok(is_found) => return is_found,
                Err(_) if left <= again => return false,
                Err(_) => again *= 2,
            }
        }
    }

    fn shared(&self) -> Option<SharedNetwork> {
        Some(Arc::new(Self))
    }
}

/// Looks a name up on a thread of its own, since the system's resolver has no time limit. Returns
/// whether there is such a thread.
fn look_up(host: &str, port: u16, found: &Sender<bool>) -> bool {
    let (host, found) = (host.to_owned(), found.clone());
    let lookup = thread::Builder::new().name("gk-lookup".to_owned()).spawn(move || {
        let addresses = (host.as_str(), port).to_socket_addrs();
        let is_found = addresses.is_ok_and(|mut all| all.next().is_some());
        // Nothing waits for a late answer.
        found.send(is_found).unwrap_or_default();
    });
    lookup.is_ok()
}

/// Returns name and port of a server.
fn server(url: &str) -> Option<(String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let port = match uri.scheme_str()? {
        "https" => 443,
        "http" => 80,
        _ => return None,
    };
    let host = uri.host()?.trim_matches(['[', ']']);
    Some((host.to_owned(), uri.port_u16().unwrap_or(port)))
}

impl Network for NoNetwork {
    fn get(&self, _url: &str, _limit: Duration) -> Option<Vec<u8>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    /// Starts a local server that gives each connection the next answer.
    fn server(answers: Vec<String>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            for answer in answers {
                let Ok((mut stream, _)) = listener.accept() else { return };
                let _ = stream.read(&mut [0; 2_048]);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        format!("http://{address}")
    }

    fn answer(status: &str, body: &str) -> String {
        let length = body.len();
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
    }

    /// Other status codes, large bodies and other schemes yield nothing.
    #[test]
    fn http_get_returns_body_or_none() {
        let second = Duration::from_secs(5);
        let large = "x".repeat(1_024 * 1_024 + 1);
        let url = server(vec![
            answer("200 OK", "{}"),
            answer("404 Not Found", "{}"),
            answer("200 OK", &large),
        ]);
        assert_eq!(Http.get(&format!("{url}/a"), second).as_deref(), Some(&b"{}"[..]));
        assert_eq!(Http.get(&format!("{url}/b"), second), None);
        assert_eq!(Http.get(&format!("{url}/c"), second), None);
        for bad in ["", "ftp://127.0.0.1/", "file:///etc/passwd", "http://", "not a url"] {
            assert_eq!(Http.get(bad, second), None, "{bad}");
        }
    }

    #[test]
    fn http_resolves_addresses_and_local_names() {
        let second = Duration::from_secs(5);
        for url in
            ["http://127.0.0.1:9/x", "https://[::1]/", "http://localhost:1", "https://192.0.2.1/"]
        {
            assert!(Http.resolves(url, second), "{url}");
        }
        for url in ["", "ftp://127.0.0.1/", "http://", "not a url", "http://a..b/"] {
            assert!(!Http.resolves(url, second), "{url}");
        }
        assert!(Http.shared().is_some() && NoNetwork.shared().is_none());
    }

    #[test]
    fn http_redirects_and_timeout_are_bounded() {
        let moved = |to: &str| {
            format!(
                "HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
        };
        let url = server(vec![moved("/b"), answer("200 OK", "there")]);
        assert_eq!(Http.get(&url, Duration::from_secs(5)).as_deref(), Some(&b"there"[..]));
        let url = server(vec![moved("/x"); 9]);
        assert_eq!(Http.get(&url, Duration::from_secs(5)), None);
        // A port that accepts connections and never answers.
        let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", silent.local_addr().expect("an address"));
        let begun = Instant::now();
        assert_eq!(Http.get(&url, Duration::from_millis(200)), None);
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}
