//! The network as far as a migration may use it: a small `GET` for a description, and no more.
//!
//! Only HTTP and HTTPS; certificates are checked; a redirect or two, none from encrypted to clear;
//! one mebibyte at most. Whatever goes wrong is no answer, and never a failure.

use std::time::Duration;

use ureq::Agent;
use ureq::http::Uri;

use crate::migrate::recipe::Network;

/// Most bytes of an answer.
const BODY_BYTES_MAX: u64 = 1_024 * 1_024;
/// Most redirects that are followed.
const REDIRECTS_MAX: u32 = 3;
/// The shortest time that is worth a request.
const LIMIT_MIN: Duration = Duration::from_millis(50);

/// The network of this machine.
#[derive(Debug, Clone, Default)]
pub struct Http;

/// No network: nobody answers.
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
}

impl Network for NoNetwork {
    fn get(&self, _url: &str, _limit: Duration) -> Option<Vec<u8>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::time::Instant;

    use super::*;

    /// A server on this machine that gives each caller the next answer.
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

    #[test]
    fn an_answer_is_its_body_and_anything_else_is_none() {
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
    fn redirects_are_followed_a_few_times_and_silence_ends() {
        let moved = |to: &str| {
            format!(
                "HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
        };
        let url = server(vec![moved("/b"), answer("200 OK", "there")]);
        assert_eq!(Http.get(&url, Duration::from_secs(5)).as_deref(), Some(&b"there"[..]));
        let url = server(vec![moved("/x"); 9]);
        assert_eq!(Http.get(&url, Duration::from_secs(5)), None);
        // A port that is open and says nothing.
        let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", silent.local_addr().expect("an address"));
        let begun = Instant::now();
        assert_eq!(Http.get(&url, Duration::from_millis(200)), None);
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}
