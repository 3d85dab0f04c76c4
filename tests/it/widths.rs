//! Every screen at two widths, with and without colours: what it shows is a snapshot, no table is
//! wrapped, and colours add nothing but colour.

use crate::contracts::check_current;
use crate::support::{Daemon, Harness};
use crate::terminal::at_width;

/// What people look at.
const SCREENS: [&[&str]; 16] = [
    &["ls"],
    &["ls", "--all"],
    &["show", "fix-login"],
    &["status"],
    &["status", "fix-login"],
    &["diff", "fix-login"],
    &["rm", "fix-login", "--dry-run"],
    &["rm", "fix-login"],
    &["clean", "fix-login", "--dry-run"],
    &["trash", "ls"],
    &["rescue", "ls"],
    &["rescue", "show", "kept"],
    &["ps", "fix-login"],
    &["sweep"],
    &["gc", "--dry-run"],
    &["events", "--last", "3", "--env", "kept"],
];

/// Screens that hold text of any length, which a terminal wraps: facts, errors, records.
const WRAPPED: [&str; 5] = ["show", "rm", "rescue show", "events", "diff"];

/// Tables with an age in a narrow column: a slow machine shows one that is a character wider.
const CUT_BY_AGE: [&str; 3] = ["status", "trash ls", "rescue ls"];

/// A day that fills the screens.
fn scene(harness: &Harness) {
    let repo = harness.repo("home/project", 3);
    harness.write(&repo.join(".gitignore"), "target\n");
    harness.commit(&repo, "rules");
    for id in ["fix-login", "a-much-longer-name-than-most-of-them", "gone", "kept"] {
        harness.new_env(id, &repo, &[]);
    }
    let at = |id: &str| harness.data().join(format!("worktrees/{id}/project"));
    harness.write(&at("fix-login").join("README"), "edited\n");
    harness.write(&at("fix-login").join("notes"), "new\n");
    harness.write(&at("fix-login").join("target/out"), "built\n");
    harness.write(&at("kept").join("work"), "work\n");
    harness.ok(&["rm", "gone"]);
    harness.ok(&["rm", "kept", "--force"]);
    harness.drain();
    harness.ok(&["status"]);
}

/// Returns what a line shows in the end: progress is drawn over.
fn shown_last(line: &str) -> String {
    plain(line.rsplit("\u{1b}[2K").next().unwrap_or(line))
}

/// Takes the colours out of what a terminal got.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        out += before;
        rest = after.find(|c: char| c.is_ascii_alphabetic()).map_or("", |end| &after[end + 1..]);
    }
    out + rest
}

#[test]
fn screens_fit_and_match_snapshot() {
    let harness = Harness::new();
    let _daemon = Daemon::start(&harness);
    scene(&harness);
    let mut text = String::new();
    for args in SCREENS {
        for columns in [120_u16, 60] {
            let shown = |color: &str| {
                let words = [args, &["--color", color]].concat();
                let mut command = harness.command(&words);
                command.env("PAGER", "cat").env_remove("GIT_PAGER");
                // One path for every machine, whatever the length of the real one.
                command.env("HOME", harness.dir.path());
                at_width(command, columns, "").1.replace('\r', "")
            };
            let (without, with) = (shown("never"), shown("always"));
            let name = args.join(" ");
            assert!(!without.contains("\u{1b}[3") && !without.contains("\u{1b}[1m"), "{without:?}");
            let lines = |text: &str| text.lines().map(shown_last).collect::<Vec<_>>();
            let may_wrap = name == "status fix-login"
                || WRAPPED.iter().any(|wrapped| name.starts_with(wrapped));
            for line in lines(&without) {
                let width = line.chars().count();
                assert!(
                    may_wrap || width <= usize::from(columns),
                    "{name}: {width}: {line} {without}"
                );
            }
            let begin = |line: &String| line.trim_end().to_owned();
            let whole = |text: &str| {
                let text = lines(text).iter().map(begin).collect::<Vec<_>>().join("\n");
                masked(&text.replace(harness.dir.path().to_str().expect("text"), "DIR"))
            };
            let colored = if with.contains("\u{1b}[3") { ", with colours" } else { "" };
            // There the width of an age decides which column is cut.
            if columns == 120 || !CUT_BY_AGE.contains(&&*name) {
                text += &format!("== {name} at {columns}{colored}\n");
                assert_eq!(whole(&with), whole(&without), "{name}: a colour is a colour only");
                text += &whole(&without);
            }
        }
    }
    check_current("screens.txt", &text);
}

/// Replaces what differs from run to run: numbers, commits, ages, and the padding that follows.
fn masked(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let mut word = String::new();
        let mut is_cut = false;
        for c in line.chars().chain(['\n']) {
            if c.is_ascii_alphanumeric() {
                word.push(c);
                continue;
            }
            // What is left of a cut word may be the end of a commit.
            let long = is_cut || word.len() >= 7;
            let hex = long && word.bytes().all(|b| b.is_ascii_hexdigit());
            let digit = |c: char| if c.is_ascii_digit() { '0' } else { c };
            out.extend(word.chars().map(|c| if hex { 'x' } else { digit(c) }));
            word.clear();
            out.push(c);
            is_cut = c == '\u{2026}';
        }
    }
    for age in ["00s", "0m", "00m"] {
        out = out.replace(&format!(" {age} "), " 0s ").replace(&format!("({age} "), "(0s ");
    }
    while out.contains("   ") {
        out = out.replace("   ", "  ");
    }
    out
}
