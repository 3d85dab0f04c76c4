//! The progress of an operation on stderr: a line that changes, or a line a step.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::terminal::{note, printable};

/// Progress of an operation on stderr: one line that changes on a terminal, else one line a step.
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
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {wide_msg:.dim}") {
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
