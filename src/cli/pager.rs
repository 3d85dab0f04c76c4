//! Shows a long text through the pager that git uses, at a terminal. A pager that cannot be started
//! takes no text away.

use std::io::{IsTerminal as _, Write as _};
use std::process::{Command, Stdio};

use crate::cli::render;

/// The pager of git where no other is set.
const DEFAULT: &str = "less";
/// What git tells it: to end on one screen, to keep colours and to leave the text there.
const LESS: &str = "FRX";

/// Prints a text, through the pager if stdout is a terminal.
pub(super) fn page(text: &str) {
    if !std::io::stdout().is_terminal() || through(text).is_none() {
        render::out(text);
    }
}

fn through(text: &str) -> Option<()> {
    let set = ["GIT_PAGER", "PAGER"].iter().find_map(|name| std::env::var(name).ok());
    let pager = set.unwrap_or_else(|| DEFAULT.to_owned());
    // Words, not a line for a shell: what it would do with them is up to the environment.
    let mut words = pager.split_whitespace();
    let program = words.next().filter(|program| *program != "cat")?;
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::piped());
    if std::env::var_os("LESS").is_none() {
        command.env("LESS", LESS);
    }
    let mut child = command.spawn().ok()?;
    if let Some(mut input) = child.stdin.take() {
        // It may be left before its end.
        drop(input.write_all(text.as_bytes()));
    }
    drop(child.wait());
    Some(())
}
