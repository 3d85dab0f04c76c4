//! Snapshot of the verbs that run and ask a control server: `server`, `up` and `host`, with their
//! ready lines, their text, their JSON and their exit codes.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use crate::contracts::{Day, check_current, redacted};
use crate::support::{Harness, wait_for};

/// A program that serves in the foreground, killed when it is dropped.
struct Serving {
    child: Child,
    /// What it printed on stdout when it was ready, redacted.
    ready: String,
}

impl Serving {
    /// Starts a verb and waits for its ready lines.
    fn start(harness: &Harness, args: &[&str], lines: usize) -> Self {
        let mut command = harness.command(args);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("started");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let ready: Vec<String> = out.lines().take(lines).map(|l| l.expect("a line")).collect();
        Self { child, ready: redacted(&ready.join("\n"), harness) }
    }

    /// Waits for its end and returns its exit code; `signal` asks for the end.
    fn end(mut self, signal: bool) -> i32 {
        if signal {
            let pid = self.child.id().to_string();
            let sent = Command::new("kill").arg("-TERM").arg(pid).status().expect("kill runs");
            assert!(sent.success());
        }
        self.child.wait().expect("ended").code().unwrap_or(-1)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Returns the text and the JSON of verbs, one after the other.
fn verbs(day: &Day, all: &[&[&str]]) -> String {
    let mut text = String::new();
    for args in all {
        text += &format!("$ groundskeeper {}\n{}\n", args.join(" "), day.text_output(args));
        text += &day.json(args);
    }
    text
}

#[test]
fn server_verbs_match_snapshot() {
    let day = Day::new();
    let mut text = String::new();
    let server = Serving::start(&day.harness, &["server"], 1);
    text += &format!("$ groundskeeper server\n{}", server.ready);
    text += &verbs(
        &day,
        &[
            &["server"],
            &["host", "ls"],
            &["host", "add", "bad name"],
            &["host", "add", "box", "--replace"],
            &["host", "add", "box"],
            &["host", "ls"],
            &["host", "rm", "none"],
            &["host", "rm", "box"],
        ],
    );
    text += &format!("$ groundskeeper server [{}]\n", server.end(true));
    check_current("server.txt", &text);
}

/// Server and daemon in one process end together, by `stop` as well.
#[test]
fn up_matches_snapshot() {
    let day = Day::new();
    let up = Serving::start(&day.harness, &["up"], 2);
    let mut text = format!("$ groundskeeper up\n{}", up.ready);
    // Until the host has reported everything that the list shows.
    wait_for("a session", || {
        let list = day.json(&["host", "ls"]);
        list.contains("\"connected\": true") && !list.contains("null")
    });
    text += &verbs(&day, &[&["host", "ls"], &["ls"], &["daemon"]]);
    text += &day.json(&["stop"]);
    text += &format!("$ groundskeeper up [{}]\n", up.end(false));
    check_current("up.txt", &text);
}
