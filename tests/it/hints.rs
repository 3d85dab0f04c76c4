//! Every command that a message names can be pasted: it parses as it stands there.
//!
//! The text of the sources is read, so that a message is tried that no test provokes.

use std::path::{Path, PathBuf};

use clap::Parser as _;
use clap::error::ErrorKind;
use groundskeeper::cli::args::Arguments;

use crate::replay::replay;

/// A command in a text of the program.
struct Hint {
    place: String,
    command: String,
    /// Whether it is in a comment, which may name a verb alone.
    is_comment: bool,
}

/// Returns the commands between backquotes of all sources that begin with a word.
fn hints(first: &str) -> Vec<Hint> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tools/replay/src"] {
        collect(&root.join(folder), &mut files);
    }
    let mut found = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("read");
        // A literal goes on in the next line, and so does a comment.
        let text = joined(&text);
        for (number, line) in text.lines().enumerate() {
            let is_comment = line.trim_start().starts_with("//");
            let commands = line.split('`').skip(1).step_by(2);
            // With a quotation mark it is a part of a text that is put together.
            for command in commands.filter(|command| !command.contains('"')) {
                if command.strip_prefix(first).is_some_and(|rest| rest.starts_with(' ')) {
                    let place = format!("{} (about line {})", file.display(), number + 1);
                    found.push(Hint { place, command: command.to_owned(), is_comment });
                }
            }
        }
    }
    found
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
}

fn joined(text: &str) -> String {
    let mut all = String::new();
    for line in text.lines() {
        let rest = line.trim_start();
        let continues = all.ends_with("\\\n");
        let comment = ["//! ", "/// ", "// "].iter().find_map(|mark| rest.strip_prefix(mark));
        let odd = all.lines().last().is_some_and(|last| last.matches('`').count() % 2 == 1);
        if continues {
            all.truncate(all.len() - 2);
            all.push_str(rest);
        } else if let Some(comment) = comment.filter(|_| odd && all.ends_with('\n')) {
            all.truncate(all.len() - 1);
            all.push(' ');
            all.push_str(comment);
        } else {
            all.push_str(line);
        }
        all.push('\n');
    }
    all
}

/// Returns the words of a command, with what the program fills in as a number, which is a valid
/// value everywhere.
fn words(command: &str) -> Vec<String> {
    let mut filled = String::new();
    let mut rest = command;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        // After a word stands what may be left out.
        if !before.ends_with(char::is_alphanumeric) {
            filled.push('1');
        }
        rest = after.split_once('}').map_or("", |(_, rest)| rest);
    }
    filled.push_str(rest);
    // An example of a list, or of what one may leave out.
    let words = filled.split_whitespace().filter(|word| *word != "...");
    let mut words: Vec<String> = words.map(|word| word.trim_matches('\'').to_owned()).collect();
    // A message about several verbs.
    if let Some(verb) = words.get_mut(1).filter(|verb| *verb == "1") {
        "show".clone_into(verb);
    }
    words
}

#[test]
fn commands_in_messages_parse() {
    let all = hints("groundskeeper");
    assert!(all.len() > 80, "only {} were found", all.len());
    let mut wrong = Vec::new();
    for hint in all {
        let Err(error) = Arguments::try_parse_from(words(&hint.command)) else { continue };
        let is_help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
        let names_verb = hint.is_comment
            && matches!(
                error.kind(),
                ErrorKind::MissingRequiredArgument
                    | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            );
        if !is_help && !names_verb {
            let why = error.to_string();
            let why = why.lines().next().unwrap_or_default();
            wrong.push(format!("{}: `{}`: {why}", hint.place, hint.command));
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn replay_commands_in_messages_exist() {
    let all = hints("replay");
    assert!(all.len() > 20, "only {} were found", all.len());
    for hint in all {
        let words = words(&hint.command);
        let verb = words.get(1).expect("a verb");
        // A placeholder for any of them.
        if verb == "VERB" {
            continue;
        }
        let help = replay(&[verb, "--help"]);
        assert_eq!(help.code, 0, "{}: `{}`", hint.place, hint.command);
        let help = help.out;
        for flag in words.iter().filter(|word| word.starts_with("--")) {
            assert!(help.contains(flag.as_str()), "{}: `{}`: {flag}", hint.place, hint.command);
        }
    }
}
