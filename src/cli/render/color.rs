//! Colours with a meaning: green is done or added, yellow needs attention, red is lost or removed.
//! They are for people at a terminal; `NO_COLOR` and `--color` decide.

use std::io::IsTerminal as _;

use crate::cli::args::Color;

/// A colour of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Tone {
    /// Nothing to do.
    Good,
    /// Work at risk, or work in progress.
    Attention,
    /// Failed, missing or removed.
    Bad,
    /// A place in a text.
    Place,
    /// A heading.
    Heading,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Attention => "33",
            Self::Bad => "31",
            Self::Place => "36",
            Self::Heading => "1",
        }
    }
}

/// Returns whether stdout gets colours.
pub(in crate::cli) fn is_wanted(when: Color) -> bool {
    match when {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
            !refused && !is_dumb && std::io::stdout().is_terminal()
        }
    }
}

/// Returns a text in a colour.
pub(in crate::cli) fn paint(text: &str, tone: Tone) -> String {
    format!("\u{1b}[{}m{text}\u{1b}[0m", tone.code())
}

/// Returns a patch with the colours that git gives it.
pub(in crate::cli) fn patch(text: &str) -> String {
    let mut painted = String::with_capacity(text.len() * 2);
    for line in text.split_inclusive('\n') {
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
        let tone = match line.as_bytes() {
            [b'+', b'+', b'+', ..] | [b'-', b'-', b'-', ..] => Some(Tone::Heading),
            [b'+', ..] => Some(Tone::Good),
            [b'-', ..] => Some(Tone::Bad),
            [b'@', b'@', ..] => Some(Tone::Place),
            bytes if bytes.starts_with(b"diff ") || bytes.starts_with(b"index ") => {
                Some(Tone::Heading)
            }
            _ => None,
        };
        painted.push_str(&tone.map_or_else(|| line.to_owned(), |tone| paint(line, tone)));
        painted.push_str(end);
    }
    painted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patch_lines_are_painted_by_their_beginning() {
        let text = "diff --git a/x b/x\n@@ -1 +1 @@\n-old\n+new\n same\n";
        let painted = patch(text);
        assert!(painted.contains("\u{1b}[31m-old\u{1b}[0m\n\u{1b}[32m+new\u{1b}[0m\n same\n"));
        let plain = ["1", "36", "31", "32", "0"]
            .iter()
            .fold(painted, |text, code| text.replace(&format!("\u{1b}[{code}m"), ""));
        assert_eq!(plain, text, "nothing but colours is added");
    }
}
