//! Where output goes: stdout, or a pager as git would choose it; with colours where a person looks.
//!
//! Text from a log is made harmless before it reaches a terminal. A reader that has gone away
//! (`| head`) ends the work quietly. Nothing here knows what is printed.

pub(crate) use groundskeeper_journal::format::{count, span};
use std::io::{self, IsTerminal as _, Write};
use std::process::{Child, Command, Stdio};

use anstyle::{AnsiColor, Style};
use comfy_table::{Table, presets};
use serde_json::Value;

/// The way out, and how it is to look.
pub(crate) struct Out {
    sink: Box<dyn Write>,
    pager: Option<Child>,
    /// One object or NDJSON instead of text.
    pub(crate) json: bool,
    colour: bool,
    /// Nobody reads on.
    pub(crate) closed: bool,
}

/// What a piece of text is, so that it can be told from the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Faint,
    Good,
    Warn,
    Bad,
    Name,
    Head,
}

impl Tone {
    fn style(self) -> Style {
        let fg = |colour: AnsiColor| colour.on_default();
        match self {
            Self::Plain => Style::new(),
            Self::Faint => Style::new().dimmed(),
            Self::Good => fg(AnsiColor::Green),
            Self::Warn => fg(AnsiColor::Yellow),
            Self::Bad => fg(AnsiColor::Red).bold(),
            Self::Name => fg(AnsiColor::Cyan),
            Self::Head => Style::new().bold(),
        }
    }
}

impl Out {
    /// Output for one verb. `paged` is false where output comes as it happens.
    pub(crate) fn new(json: bool, paged: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
            || std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        let mut pager = (terminal && paged && !json).then(start_pager).flatten();
        let sink: Box<dyn Write> = match pager.as_mut().and_then(|p| p.stdin.take()) {
            Some(stdin) => Box::new(io::BufWriter::new(stdin)),
            None => Box::new(io::BufWriter::with_capacity(1 << 16, io::stdout())),
        };
        Self { sink, pager, json, colour: terminal && !plain && !json, closed: false }
    }

    /// Writes text as it is.
    pub(crate) fn text(&mut self, text: &str) {
        if !self.closed && self.sink.write_all(text.as_bytes()).is_err() {
            self.closed = true;
        }
    }

    pub(crate) fn line(&mut self, text: &str) {
        self.text(text);
        self.text("\n");
    }

    /// One object on one line.
    pub(crate) fn object(&mut self, value: &Value) {
        self.line(&value.to_string());
    }

    /// What is written is to be seen now.
    pub(crate) fn flush(&mut self) {
        if !self.closed && self.sink.flush().is_err() {
            self.closed = true;
        }
    }

    /// Text in a colour, where colours are wanted.
    pub(crate) fn paint(&self, tone: Tone, text: &str) -> String {
        if !self.colour || tone == Tone::Plain {
            return text.to_owned();
        }
        let style = tone.style();
        format!("{style}{text}{style:#}")
    }

    /// A heading and a table below it; nothing when there are no rows.
    pub(crate) fn table(&mut self, title: &str, head: &[&str], rows: Vec<Vec<String>>) {
        if rows.is_empty() {
            return;
        }
        if !title.is_empty() {
            let title = self.paint(Tone::Head, title);
            self.line(&format!("\n{title}"));
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(head.iter().copied());
        for row in rows {
            table.add_row(row);
        }
        let text = table.trim_fmt();
        self.line(&text);
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        self.flush();
        // The pager ends when its input does.
        self.sink = Box::new(io::sink());
        if let Some(pager) = &mut self.pager {
            drop(pager.wait());
        }
    }
}

fn start_pager() -> Option<Child> {
    let pager = std::env::var("PAGER").unwrap_or_else(|_| "less".to_owned());
    if pager.trim().is_empty() || pager.trim() == "cat" {
        return None;
    }
    let mut command = Command::new("sh");
    // The shell takes the pager's arguments apart, as it does for git.
    command.args(["-c", &pager]).stdin(Stdio::piped());
    if std::env::var_os("LESS").is_none() {
        command.env("LESS", "FRX");
    }
    command.spawn().ok()
}

/// Text from a log, for a terminal: no control characters, nothing that turns lines around.
pub(crate) fn safe(text: &str) -> String {
    let risky = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(risky) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if risky(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// A warning or a note, for people, on stderr.
pub(crate) fn note(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(safe("demo é"), "demo é");
        assert_eq!(safe("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(safe("x\u{202e}y"), "x\\u{202e}y");
    }
}
