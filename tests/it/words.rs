//! Words of the source: identifiers, comments and string literals use the glossary of CONTRIBUTING,
//! not the words of the table below.
//!
//! A contract keeps its words: a doc comment that is part of the API documents or of `--help` is
//! exempt, and so are an operation's id, a stored name and the names listed in [`EXEMPT`].

use crate::tidy::{read, sources};

/// Words to avoid, each with what to use instead. A word of several parts also matches an
/// identifier of these parts, such as `let_go_of`.
const AVOID: [(&str, &str); 40] = [
    ("afar", "remote"),
    ("alike", "the same, or what is the same"),
    ("asker", "actor, requester"),
    ("book", "cache"),
    ("breathe", "throttle"),
    ("came home", "completed"),
    ("come home", "complete"),
    ("comes home", "completes"),
    ("debt", "owed step"),
    ("deed", "command, action"),
    ("desk", "migration runner"),
    ("displaced", "replaced"),
    ("everybody", "all users, all processes"),
    ("glance", "inspection"),
    ("hear", "receive"),
    ("heard", "received"),
    ("hears", "receives"),
    ("hub", "watch tracker, session registry"),
    ("hurry", "retry at once"),
    ("is looked at", "is inspected"),
    ("lanes", "queues"),
    ("let go", "release, give up"),
    ("lets go", "releases, gives up"),
    ("news", "notifications, changes"),
    ("nobody", "no user, no process"),
    ("patience", "timeout, wait"),
    ("put off", "retried later"),
    ("remains", "archive"),
    ("remnant", "incarnation"),
    ("saver", "rescuer"),
    ("somebody", "the user, another process"),
    ("stranger", "foreign"),
    ("strangers", "foreign"),
    ("talk", "session"),
    ("voice", "reporter"),
    ("waking", "suspend detector"),
    ("whoever", "the user who, the process that"),
    ("wish", "request"),
    ("wishes", "requests"),
    ("woken", "resumed"),
];

/// Names that keep such a word, because they are contracts.
const EXEMPT: [&str; 2] = ["RemainsAttemptFailed", "RemainsView"];

/// Files whose texts are contracts. A doc comment that is part of one of them is exempt.
const CONTRACTS: [&str; 3] =
    ["schema/openapi.json", "schema/openapi-server.json", "tests/it/contracts/help.txt"];

/// One part of a name or a text, in lower case, with the line and the name that it stands in.
struct Part {
    line: usize,
    word: String,
    name: String,
}

/// Splits a text into its parts: at all that is no letter or digit, and at the humps of a name.
fn parts(text: &str) -> Vec<Part> {
    let mut found = Vec::new();
    for (n, line) in text.lines().enumerate() {
        for name in line.split(|c: char| !c.is_alphanumeric() && c != '_') {
            let mut word = String::new();
            let mut before = '_';
            for c in name.chars().chain(['_']) {
                let is_hump = c.is_uppercase() && before.is_lowercase();
                if (c == '_' || is_hump) && !word.is_empty() {
                    let word = std::mem::take(&mut word).to_lowercase();
                    found.push(Part { line: n + 1, word, name: name.to_owned() });
                }
                if c != '_' {
                    word.push(c);
                }
                before = c;
            }
        }
    }
    found
}

/// Joins the words of a text with blanks, with a blank at both ends.
fn joined(text: &str) -> String {
    parts(text).iter().fold(" ".to_owned(), |text, part| text + &part.word + " ")
}

/// Returns the words to avoid in a source, each as `line: word, use instead`. `contracts` are the
/// joined words of the texts that are exempt.
fn avoided(text: &str, contracts: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let is_contract = |line: usize| {
        let line = lines[line - 1].trim_start();
        let doc = line.strip_prefix("/// ");
        let is_name = line.contains("operation_id = ") || line.contains("serde(rename = ");
        is_name || doc.is_some_and(|doc| contracts.contains(&joined(doc)))
    };
    let parts = parts(text);
    let mut found = Vec::new();
    for (word, instead) in AVOID {
        let wanted: Vec<&str> = word.split(' ').collect();
        for window in parts.windows(wanted.len()) {
            let first = &window[0];
            let matches = window.iter().map(|part| part.word.as_str()).eq(wanted.iter().copied());
            if matches && !EXEMPT.contains(&first.name.as_str()) && !is_contract(first.line) {
                found.push(format!("{}: `{word}`, use {instead}", first.line));
            }
        }
    }
    found
}

/// Covers names, comments and strings.
#[test]
fn source_uses_words_of_glossary() {
    let contracts: String =
        CONTRACTS.iter().map(|name| joined(&read(name).replace("\\n", " "))).collect();
    let mut found = Vec::new();
    for source in sources("src") {
        let avoided = avoided(&source.text, &contracts);
        found.extend(avoided.into_iter().map(|what| format!("{}:{what}", source.name)));
    }
    assert!(found.is_empty(), "{} words to avoid:\n{}", found.len(), found.join("\n"));
}

/// Each exempt name is in use, so that the list shrinks with the renames.
#[test]
fn exempt_names_are_in_use() {
    let all: Vec<String> =
        sources("src").iter().flat_map(|s| parts(&s.text)).map(|part| part.name).collect();
    for name in EXEMPT {
        assert!(all.iter().any(|one| one == name), "{name} is not in use any more");
    }
}

/// A planted word is found in a comment, a name of either style, a string, and across two lines.
#[test]
fn planted_word_is_found() {
    let planted = [
        "// Somebody else made it.",
        "struct StrangerDanger;",
        "fn let_go_of(id: u32) {}",
        "let text = \"whoever asks\";",
        "/// The lease is\n/// looked at.",
    ];
    for text in planted {
        assert_eq!(avoided(text, "").len(), 1, "{text}");
    }
    for text in ["// Somebodys", "fn outlet_gone() {}", "struct RemainsView;", "struct Hubris;"] {
        assert!(avoided(text, "").is_empty(), "{text}");
    }
    assert!(avoided("/// For somebody.", &joined("made for somebody")).is_empty(), "a contract");
}
