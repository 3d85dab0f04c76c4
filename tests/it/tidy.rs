//! Style and architecture rules as tests: import directions, sizes, and the places that may name
//! external crates.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 400;
/// Of a file of integration tests: one area under test.
const TEST_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 60;
const FILE_LINES_MEDIAN_MAX: usize = 300;
const FUNCTION_LINES_MEDIAN_MAX: usize = 12;

/// Modules that each top-level module may import. Imports only go downward. A package of its own
/// below `src` has no line: the compiler holds its direction.
const DIRECTIONS: [(&str, &[&str]); 11] = [
    ("world", &["core", "world", "format", "failpoint"]),
    ("recipes", &["migrate"]),
    ("engine", &["core", "journal", "world", "migrate", "engine", "failpoint"]),
    ("config", &["core", "world", "migrate"]),
    ("config_file", &["core", "config", "default_dir"]),
    ("service", &["core", "engine", "world", "migrate", "config", "format", "service", "VERSION"]),
    ("http", &["core", "world", "format", "service", "http"]),
    ("api", &["core", "describe", "format", "service", "http", "api"]),
    (
        "session",
        &["core", "journal", "engine", "world", "format", "service", "http", "session", "VERSION"],
    ),
    (
        "server",
        &["core", "format", "world", "migrate", "recipes", "service", "http", "session", "server"],
    ),
    (
        "daemon",
        &[
            "core",
            "journal",
            "world",
            "migrate",
            "recipes",
            "engine",
            "service",
            "http",
            "api",
            "config",
            "config_file",
            "session",
            "daemon",
            "format",
            "failpoint",
            "VERSION",
        ],
    ),
];

/// What every module may import.
const EVERYWHERE: [&str; 2] = ["clock", "sync"];

/// Packages below `src`, with the packages of ours that each may depend on.
const PACKAGES: [(&str, &[&str]); 6] = [
    ("core", &[]),
    ("failpoint", &[]),
    ("system", &["core", "failpoint"]),
    ("journal", &["core", "system"]),
    ("migrate", &["core", "failpoint", "journal", "system"]),
    ("migrate/recipes/executor", &["migrate"]),
];

/// Parts of `service` that each module may name which calls no use case: types and helpers.
const SERVICE_PARTS: [(&str, &[&str]); 2] =
    [("http", &["outcome", "requests", "types"]), ("server", &["blocking", "types"])];

/// External crates, with the places that may name each.
const CRATES: [(&str, &[&str]); 32] = [
    ("ryu_js", &["src/migrate/recipes/executor/js/number.rs"]),
    ("ureq", &["src/migrate/http.rs"]),
    ("keyring", &["src/migrate/keychain.rs"]),
    ("rusqlite", &["src/server/", "src/migrate/"]),
    ("tokio_tungstenite", &["src/session/transport.rs"]),
    ("futures_util", &["src/session/transport.rs", "src/server/connections.rs"]),
    ("notify", &["src/world/watch/portable.rs"]),
    ("ignore", &["src/world/watch/rules.rs"]),
    ("redb", &["src/journal/"]),
    ("bincode", &["src/journal/codec.rs", "src/journal/payload.rs"]),
    ("crc32c", &["src/journal/", "src/migrate/source.rs"]),
    (
        "tokio",
        &[
            "src/engine/",
            "src/service/",
            "src/http/",
            "src/api/",
            "src/daemon/",
            "src/cli/",
            "src/session/",
            "src/server/",
        ],
    ),
    ("tokio_stream", &["src/api/", "src/server/"]),
    ("axum", &["src/http/", "src/api/", "src/server/"]),
    ("utoipa", &["src/service/types/", "src/http/openapi.rs", "src/api/", "src/server/"]),
    ("hyper", &["src/http/", "src/cli/", "src/server/"]),
    ("hyper_util", &["src/http/", "src/cli/", "src/server/"]),
    ("http_body_util", &["src/cli/"]),
    ("clap", &["src/cli/"]),
    ("indicatif", &["src/cli/render/"]),
    ("comfy_table", &["src/cli/render/"]),
    ("jiff", &["src/journal/format.rs"]),
    ("toml", &["src/config_file.rs"]),
    ("etcetera", &["src/default_dir.rs", "src/migrate/recipes/executor/defaults.rs"]),
    ("reflink_copy", &["src/world/effects/copy_included.rs"]),
    ("libc", &["src/engine/scheduling.rs", "src/system/heap.rs"]),
    ("windows_sys", &["src/system/windows_access.rs"]),
    ("sd_notify", &["src/daemon/"]),
    ("strsim", &["src/cli/named.rs"]),
    ("terminal_size", &["src/cli/render/terminal.rs"]),
    ("sha1", &["src/world/git/index/format.rs"]),
    (
        "serde_json",
        &[
            "src/journal/format.rs",
            "src/service/types/",
            "src/http/",
            "src/api/",
            "src/cli/",
            "src/daemon/",
            "src/world/git/marker.rs",
            "src/session/",
            "src/server/",
            "src/migrate/",
        ],
    ),
];

/// A source file, with its path below the root.
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) text: String,
}

impl Source {
    /// Returns the lines of code without comment lines and unit tests.
    fn code(&self) -> impl Iterator<Item = &str> {
        let end = self.text.find("\n#[cfg(test)]\nmod tests").unwrap_or(self.text.len());
        self.text[..end].lines().filter(|l| !l.trim_start().starts_with("//"))
    }
}

/// Returns the text of a file, by its path below the root.
pub(crate) fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(path).expect("text")
}

/// Returns all Rust files below a folder.
pub(crate) fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut todo = vec![root.join(folder)];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).expect("text");
                let name = path.strip_prefix(root).expect("below").display().to_string();
                found.push(Source { name, text });
            }
        }
    }
    assert!(!found.is_empty(), "{folder} holds no source");
    found
}

fn is_test_only(name: &str) -> bool {
    let places = [
        "src/core/invariants/forged.rs",
        "src/core/sim/",
        "src/engine/admission_tests.rs",
        "src/engine/watcher/failures.rs",
        "src/journal/testing/",
        "src/migrate/power.rs",
        "src/migrate/sample.rs",
        "src/server/sim/",
        "src/world/git/ref_changes/tests.rs",
        "src/world/watch/conformance.rs",
        "src/world/watch/injected.rs",
    ];
    places.iter().any(|place| name.starts_with(place))
}

fn all() -> Vec<Source> {
    ["src", "tests", "tools"].into_iter().flat_map(sources).collect()
}

fn median(mut numbers: Vec<usize>) -> usize {
    numbers.sort_unstable();
    numbers[numbers.len() / 2]
}

#[test]
fn every_file_has_purpose_line() {
    for source in all() {
        assert!(source.text.starts_with("//! "), "{} has no `//!` head", source.name);
    }
}

#[test]
fn files_and_functions_are_short() {
    let (mut files, mut functions) = (Vec::new(), Vec::new());
    for source in all() {
        let lines: Vec<&str> = source.text.lines().collect();
        let is_test = source.name.starts_with("tests");
        let max = if is_test { TEST_LINES_MAX } else { FILE_LINES_MAX };
        assert!(lines.len() <= max, "{} has {} lines", source.name, lines.len());
        if source.name.starts_with("src") {
            files.push(lines.len());
        }
        for (start, line) in lines.iter().enumerate() {
            let Some((name, length)) = function_at(&lines, start, line) else { continue };
            assert!(length <= FUNCTION_LINES_MAX, "{}: {name} has {length} lines", source.name);
            functions.push(length);
        }
    }
    let (file, function) = (median(files), median(functions));
    assert!(file <= FILE_LINES_MEDIAN_MAX, "the median file has {file} lines");
    assert!(function <= FUNCTION_LINES_MEDIAN_MAX, "the median function has {function} lines");
}

/// Returns name and length of the function that starts at a line; relies on rustfmt's layout.
fn function_at<'a>(lines: &[&str], start: usize, line: &'a str) -> Option<(&'a str, usize)> {
    let code = line.trim_start();
    let words = ["pub ", "pub(crate) ", "pub(super) ", "const ", "async ", "unsafe "];
    let mut rest = code;
    while let Some(word) = words.iter().find(|w| rest.starts_with(**w)) {
        rest = &rest[word.len()..];
    }
    let name = rest.strip_prefix("fn ")?.split(['(', '<']).next()?;
    let indent = &line[..line.len() - code.len()];
    let end = format!("{indent}}}");
    let length = lines[start..].iter().position(|l| *l == end || l.ends_with("; }"))? + 1;
    Some((name, length))
}

#[test]
fn modules_import_downwards() {
    for (module, allowed) in DIRECTIONS {
        let belongs = |name: &str| {
            name.starts_with(&format!("src/{module}/")) || name == format!("src/{module}.rs")
        };
        let mut seen = false;
        for source in sources("src").iter().filter(|s| belongs(&s.name)) {
            seen = true;
            for line in source.code() {
                for (at, _) in line.match_indices("crate::") {
                    let word = line[at + 7..].split(|c: char| !c.is_alphanumeric() && c != '_');
                    let named = word.into_iter().next().unwrap_or_default();
                    let fine = allowed.contains(&named) || EVERYWHERE.contains(&named);
                    assert!(fine, "{}: {module} must not name {named}", source.name);
                }
            }
        }
        assert!(seen, "there is no module {module}");
    }
}

/// The compiler refuses a path to a package that the manifest does not list.
#[test]
fn packages_depend_downwards() {
    for (folder, allowed) in PACKAGES {
        let manifest = read(&format!("src/{folder}/Cargo.toml"));
        for line in manifest.lines() {
            let Some((name, _)) = line.split_once(" = ") else { continue };
            assert!(name != "tokio", "{folder} must not depend on tokio");
            let Some(ours) = name.strip_prefix("groundskeeper-") else { continue };
            assert!(allowed.contains(&ours), "{folder} must not depend on {ours}");
        }
    }
}

#[test]
fn only_adapters_call_use_cases() {
    for (module, parts) in SERVICE_PARTS {
        for source in sources(&format!("src/{module}")) {
            for line in source.code() {
                let whole = ["crate::service;", "crate::service as"];
                let names_all = whole.iter().any(|text| line.contains(text));
                assert!(!names_all, "{}: {line}", source.name);
                for (at, _) in line.match_indices("crate::service::") {
                    let rest = &line[at + "crate::service::".len()..];
                    let fine = parts.iter().any(|part| rest.starts_with(&format!("{part}::")));
                    assert!(fine, "{}: {line}", source.name);
                }
            }
        }
    }
}

#[test]
fn external_crates_stay_in_home_module() {
    for (name, homes) in CRATES {
        let path = format!("{name}::");
        for source in sources("src") {
            if is_test_only(&source.name) || homes.iter().any(|h| source.name.starts_with(h)) {
                continue;
            }
            for line in source.code() {
                let named = line.match_indices(&path).any(|(at, _)| {
                    !line[..at].ends_with(|c: char| c.is_alphanumeric() || "_:".contains(c))
                });
                assert!(!named, "{} names {name}: {line}", source.name);
            }
        }
    }
}

#[test]
fn core_is_pure() {
    let impure = [
        "std::fs",
        "std::io",
        "std::env",
        "std::net",
        "std::process",
        "std::thread",
        "std::sync",
        "SystemTime",
        "Instant",
        "HashMap",
        "HashSet",
        "tokio",
        "async ",
        "f64",
        "f32",
        "rand",
        "println!",
        "tracing",
    ];
    for source in sources("src/core") {
        if is_test_only(&source.name) {
            continue;
        }
        // A shared value that is copied when it changes is as good as a copy.
        for line in source.code().filter(|line| *line != "use std::sync::Arc;") {
            for word in impure {
                assert!(!line.contains(word), "{} names {word}: {line}", source.name);
            }
        }
    }
}

#[test]
fn one_file_reads_wall_clock() {
    let mut readers = Vec::new();
    for source in sources("src").iter().filter(|s| !is_test_only(&s.name)) {
        let reads = |line: &str| {
            let names = ["SystemTime::now", "Timestamp::now", "Zoned::now"];
            names.iter().any(|name| line.contains(name))
        };
        if source.code().any(reads) {
            readers.push(source.name.clone());
        }
    }
    readers.sort_unstable();
    // The first tells people how long ago something was.
    assert_eq!(readers, ["src/journal/format.rs", "src/system/clock.rs"]);
}

#[test]
fn no_unfinished_code_or_unexplained_exception() {
    // Spelled in parts, so that no search for them matches this file.
    let marks = ["todo!", "unimplemented!", &["FIX", "ME"].concat(), &["TO", "DO:"].concat()];
    let ignored = ["#[", "ignore"].concat();
    for source in all() {
        for line in source.text.lines().filter(|_| !source.name.ends_with("tidy.rs")) {
            for mark in marks {
                assert!(!line.contains(mark), "{}: {line}", source.name);
            }
            assert!(!line.contains(&ignored), "{}: a test that does not run", source.name);
        }
    }
}

#[test]
fn no_message_says_unknown_error() {
    let printed = ["unknown", " error"].concat();
    for source in sources("src").iter().filter(|s| !is_test_only(&s.name)) {
        for line in source.code() {
            assert!(!line.to_lowercase().contains(&printed), "{}: {line}", source.name);
        }
    }
}

#[test]
fn every_test_file_is_listed() {
    let main =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/main.rs"))
            .expect("read");
    let listed: BTreeSet<&str> =
        main.lines().filter_map(|l| l.strip_prefix("mod ")?.strip_suffix(';')).collect();
    for source in sources("tests/it") {
        let name = PathBuf::from(&source.name);
        let stem = name.file_stem().and_then(|s| s.to_str()).expect("a name").to_owned();
        assert!(stem == "main" || listed.contains(stem.as_str()), "{stem} never runs");
    }
}

#[test]
fn top_level_files_are_known() {
    let allowed = [
        "Cargo.toml",
        "Cargo.lock",
        "src",
        "schema",
        "tests",
        "tools",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "target",
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for entry in std::fs::read_dir(root).expect("a folder").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        assert!(name.starts_with('.') || allowed.contains(&name.as_str()), "{name}");
    }
}

/// Checks the width of comments, which rustfmt does not enforce.
#[test]
fn comments_are_wrapped() {
    const WIDTH: usize = 100;
    for source in all() {
        let comments = source.text.lines().filter(|line| line.trim_start().starts_with("//"));
        for line in comments {
            // A row of a table cannot be wrapped.
            let fits = line.chars().count() <= WIDTH || line.contains(" | ");
            assert!(fits, "{}: {line}", source.name);
        }
    }
}
