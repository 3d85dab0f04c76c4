//! Shows a long text through the pager that git uses, at a terminal. A pager that cannot be started
//! takes no text away.

use std::io::{IsTerminal as _, Write as _};
use std::process::{Command, Stdio};

use tokio::signal::unix::{SignalKind, signal};

use crate::cli::render;

/// The pager of git where no other is set.
const DEFAULT: &str = "less";
/// What git tells it: to end on one screen, to keep colours and to leave the text there.
const LESS: &str = "FRX";

/// Exit codes of a shell for a program that cannot be run, and for one that does not exist.
const NOT_STARTED: [i32; 2] = [126, 127];

/// Prints a text, through the pager if stdout is a terminal.
pub(super) fn page(text: &str) {
    if text.is_empty() || !std::io::stdout().is_terminal() || through(text).is_none() {
        render::out(text);
    }
}

/// Returns none if the pager could not be started.
fn through(text: &str) -> Option<()> {
    let set = ["GIT_PAGER", "PAGER"].iter().find_map(|name| std::env::var(name).ok());
    let pager = set.unwrap_or_else(|| DEFAULT.to_owned());
    if pager.trim().is_empty() || pager.trim() == "cat" {
        return None;
    }
    // An interrupt is for the pager, which the user leaves in its own way.
    let _held = signal(SignalKind::interrupt());
    // As git runs it: it is a command line of the user's, and of no one else.
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &pager]).stdin(Stdio::piped());
    if std::env::var_os("LESS").is_none() {
        command.env("LESS", LESS);
    }
    let mut child = command.spawn().ok()?;
    if let Some(mut input) = child.stdin.take() {
        // It may be left before its end.
        drop(input.write_all(text.as_bytes()));
    }
    let code = child.wait().ok().and_then(|status| status.code());
    code.is_none_or(|code| !NOT_STARTED.contains(&code)).then_some(())
}
