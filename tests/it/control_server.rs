//! Helpers: a control server under test, and a daemon that has a session with it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use crate::support::{Daemon, Harness, WAIT_LIMIT, wait_for};

/// Interval of the server's heartbeat in milliseconds.
const HEARTBEAT_MS: &str = "100";

/// A control server in the foreground, killed when it is dropped.
pub(crate) struct Control {
    child: Child,
    pub(crate) socket: PathBuf,
    /// Address of the TCP port, as `127.0.0.1:port`.
    pub(crate) port: String,
}

impl Control {
    pub(crate) fn start(harness: &Harness) -> Self {
        Self::listen(harness, "127.0.0.1:0")
    }

    /// Starts a server at an address. Port 0 lets the system choose; a restart names the old port.
    pub(crate) fn listen(harness: &Harness, address: &str) -> Self {
        let dir = harness.path("control");
        let dir = dir.to_str().expect("text");
        let mut command = harness.command(&["server", "--server-dir", dir, "--listen", address]);
        command.env("GROUNDSKEEPER_SERVER_HEARTBEAT_MS", HEARTBEAT_MS).stdout(Stdio::piped());
        let log = harness.path("server.err");
        let log = std::fs::File::options().create(true).append(true).open(log).expect("a log");
        let mut child = command.stderr(log).spawn().expect("started");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("read");
        let place = line.trim().strip_prefix("GROUNDSKEEPER_SERVER_READY:");
        let Some((socket, port)) = place.and_then(|p| p.rsplit_once(' ')) else {
            let printed = std::fs::read_to_string(harness.path("server.err")).unwrap_or_default();
            panic!("the server did not start: {line} {printed}");
        };
        Self { child, socket: socket.into(), port: port.to_owned() }
    }

    pub(crate) fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Sends a request to the server and returns status and body of the answer.
    pub(crate) fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        self.call_as(method, path, body, "")
    }

    pub(crate) fn call_as(
        &self,
        method: &str,
        path: &str,
        body: &Value,
        headers: &str,
    ) -> (u16, Value) {
        let stream = UnixStream::connect(&self.socket).expect("connected");
        stream.set_read_timeout(Some(WAIT_LIMIT)).expect("a limit");
        http(stream, method, path, body, headers)
    }

    /// Sends a request that must succeed.
    pub(crate) fn ok(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.call(method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer:#}");
        answer
    }

    /// Returns the status of an environment in the server's tables, or `none`.
    pub(crate) fn row(&self, host: &str, id: &str) -> String {
        let (_, row) =
            self.call("GET", &format!("/v1/hosts/{host}/environments/{id}"), &Value::Null);
        row["status"].as_str().unwrap_or("none").to_owned()
    }

    /// Requests an environment and waits until it is ready.
    pub(crate) fn make(&self, host: &str, id: &str, repo: &Path) -> Value {
        let body = json!({ "id": id, "repo": repo });
        let made = self.ok("POST", &format!("/v1/hosts/{host}/environments?wait=60"), &body);
        assert_eq!(made["status"], 200, "{made:#}");
        made
    }

    /// Registers a host and returns the file with its key.
    pub(crate) fn key(&self, harness: &Harness, host: &str) -> PathBuf {
        use std::os::unix::fs::OpenOptionsExt as _;
        let made = self.ok("POST", "/v1/hosts", &json!({ "id": host }));
        let file = harness.path(format!("{host}.key"));
        let open = std::fs::File::options().create_new(true).write(true).mode(0o600).open(&file);
        let key = made["key"].as_str().expect("a key");
        writeln!(open.expect("a file"), "{key}").expect("written");
        file
    }

    pub(crate) fn await_session(&self, host: &str) {
        wait_for("a session", || {
            self.ok("GET", &format!("/v1/hosts/{host}"), &Value::Null)["connected"] == true
        });
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn http(
    mut stream: impl std::io::Read + std::io::Write,
    method: &str,
    path: &str,
    body: &Value,
    headers: &str,
) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\
         {headers}\r\n{body}",
        body.len()
    );
    exchange(&mut stream, &request)
}

/// Sends a request verbatim and returns status and body of the answer.
pub(crate) fn exchange(
    stream: &mut (impl std::io::Read + std::io::Write),
    request: &str,
) -> (u16, Value) {
    drop(stream.write_all(request.as_bytes()));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    let text = String::from_utf8_lossy(&answer);
    let status = text.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let body = text.split_once("\r\n\r\n").map(|(_, b)| b.to_owned()).unwrap_or_default();
    (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

/// Writes a configuration file that names a server and a key file.
pub(crate) fn linked(harness: &Harness, name: &str, server: &str, key: &Path) -> PathBuf {
    let config = harness.path(format!("{name}.toml"));
    let key = key.display();
    harness.write(&config, &format!("server = \"{server}\"\nserver_key_file = \"{key}\"\n"));
    config
}

/// Starts a daemon with a configuration that names a server; it retries its session quickly.
pub(crate) fn daemon(harness: &Harness, config: &Path) -> Daemon {
    let config = config.to_str().expect("text");
    let retry = ("GROUNDSKEEPER_SESSION_RETRY_MS", "20");
    Daemon::start_with(harness, &[("GROUNDSKEEPER_CONFIG", config), retry])
}
