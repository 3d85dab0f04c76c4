//! Asks before much is taken away: at a terminal, where a person can answer. A script is never
//! asked, and neither is a command with `--no-input`, `--json` or `--yes`.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use crate::cli::args::Global;
use crate::core::{Code, Fault};

/// Returns whether the user is asked before a command goes on.
pub(super) fn is_due(global: &Global, yes: bool) -> bool {
    let is_attended = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    !yes && !global.no_input && !global.json && is_attended
}

/// Asks a question. Only `y` and `yes` agree.
///
/// # Errors
/// When the user does not agree.
pub(super) fn consent(question: &str) -> Result<(), Fault> {
    let mut stderr = std::io::stderr().lock();
    drop(write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush()));
    drop(stderr);
    let mut answer = String::new();
    // The end of the input is no consent.
    drop(std::io::stdin().lock().read_line(&mut answer));
    if agrees(&answer) {
        return Ok(());
    }
    Err(Fault::new(Code::Cancelled, "nothing was changed", "`--yes` goes on without a question"))
}

fn agrees(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_agrees() {
        for (answer, agreed) in [
            ("y\n", true),
            ("Yes\n", true),
            ("\n", false),
            ("", false),
            ("n\n", false),
            ("ja\n", false),
        ] {
            assert_eq!(agrees(answer), agreed, "{answer:?}");
        }
    }
}
