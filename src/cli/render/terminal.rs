//! Writes to stdout and stderr, and what must never reach a terminal as it is.

use std::io::Write as _;

use crate::service::types::problem::Problem;

/// Writes to stdout and ignores errors: a closed pipe, as from `| head`, is not a fault.
pub fn out(text: &str) {
    let mut stdout = std::io::stdout().lock();
    drop(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()));
}

/// Writes one line to stderr and ignores errors. What it names may be foreign, so a line is all
/// that it can be.
pub fn note(text: &str) {
    drop(writeln!(std::io::stderr().lock(), "{}", printable(text)));
}

/// Writes lines to stderr, whose foreign parts are printable already.
#[cfg(feature = "daemon")]
pub(in crate::cli) fn lines(text: &str) {
    drop(writeln!(std::io::stderr().lock(), "{}", text.trim_end()));
}

/// Writes an error to stderr, with its causes, its evidence and the next step. They may name files
/// and quote programs, so each is one line of what it is.
pub fn problem(p: &Problem) {
    let mut text = format!("error: {} [{}]\n", printable(&p.message), p.code);
    for cause in &p.causes {
        text.push_str(&format!("  caused by: {}\n", printable(cause)));
    }
    for line in &p.evidence {
        text.push_str(&format!("  | {}\n", printable(line)));
    }
    if !p.hint.is_empty() {
        text.push_str(&format!("hint: {}\n", printable(&p.hint)));
    }
    drop(std::io::stderr().lock().write_all(text.as_bytes()));
}

/// Returns the width of the terminal that stdout is; none where it is another thing, whose reader
/// wants whole values.
#[cfg(feature = "daemon")]
pub(in crate::cli) fn terminal_width() -> Option<usize> {
    terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| usize::from(width.0))
}

/// Returns the height of the terminal that stdout is; that of the usual one where it is another
/// thing.
#[cfg(feature = "daemon")]
pub(in crate::cli) fn terminal_height() -> usize {
    terminal_size::terminal_size_of(std::io::stdout()).map_or(24, |(_, height)| height.0.into())
}

/// Returns the lines of a text from outside with control characters escaped, tabs excepted.
#[cfg(feature = "daemon")]
pub(in crate::cli) fn printable_lines(text: &str) -> String {
    let is_safe = |c: char| matches!(c, '\n' | '\t') || !c.is_control();
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_safe(c) {
            safe.push(c);
        } else {
            safe.extend(c.escape_default());
        }
    }
    safe
}

/// Returns a text from outside with control characters escaped, so that no file name can send
/// commands to the terminal.
#[must_use]
pub fn printable(text: &str) -> String {
    if text.chars().any(char::is_control) {
        text.escape_debug().to_string()
    } else {
        text.to_owned()
    }
}
