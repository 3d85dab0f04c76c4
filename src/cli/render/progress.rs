//! The progress of an operation on stderr: a line that changes, or a line a step.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::terminal::{note, printable};

/// Returns a step of an environment in words, as something that goes on.
#[cfg(feature = "daemon")]
#[must_use]
pub fn step_in_words(step: &str) -> String {
    match step {
        "inspect" => "looking for unsaved work",
        "run_teardown" => "running the teardown hook",
        "end_processes" => "ending its processes",
        "rescue" => "saving its work",
        "move_to_trash" => "moving it to the trash",
        "unregister" => "removing it from the repository",
        "settle_branch" => "settling its branch",
        "roll_back" => "taking back what was made",
        other => return other.replace('_', " "),
    }
    .to_owned()
}

/// Progress of an operation on stderr: one line that changes on a terminal, else one line a step,
/// with the time that the step takes.
pub struct Steps {
    bar: Option<ProgressBar>,
    quiet: bool,
}

impl Steps {
    /// Creates the display; with `quiet` it shows nothing.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) =
                ProgressStyle::with_template("{spinner} {prefix} {elapsed:.dim} {wide_msg:.dim}")
            {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { bar, quiet }
    }

    /// Shows a new step or a finding.
    pub fn step(&self, text: &str) {
        match &self.bar {
            Some(bar) => {
                if bar.prefix() != text {
                    bar.reset_elapsed();
                }
                bar.set_prefix(printable(text));
                bar.set_message("");
            }
            None if self.quiet => {}
            None => note(&format!("  {text}")),
        }
    }

    /// Shows a line of hook output, with control characters escaped.
    pub fn output(&self, line: &str) {
        let line = printable(line);
        match &self.bar {
            Some(bar) => bar.set_message(line),
            None if self.quiet => {}
            None => note(&format!("  | {line}")),
        }
    }

    /// Removes the changing line from the terminal.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
