//! The files in `schema/` and the statements of the README agree with the program.

use std::path::{Path, PathBuf};

use crate::support::Harness;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn readme_names_ci_commands() {
    let read = |name: &str| std::fs::read_to_string(root().join(name)).expect("read");
    let (readme, ci) = (read("README.md"), read(".ci/run"));
    for command in ["cargo run --release -- new fix-login", "cargo test --workspace"] {
        assert!(readme.contains(command), "the README lacks `{command}`");
    }
    assert!(ci.contains("cargo test --workspace"), "CI does not run the same test command");
}

/// The help and the manual name it.
#[test]
fn every_verb_is_documented() {
    let harness = Harness::new();
    let help = harness.command(&["--help"]).output().expect("runs");
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let manual = std::fs::read_to_string(root().join("src/manual/commands.md")).expect("read");
    for verb in [
        "new", "ls", "show", "rm", "events", "daemon", "stop", "doctor", "lease", "trust",
        "restore", "exec", "ps", "adopt", "trash", "rescue", "sweep", "gc", "df", "clean",
    ] {
        assert!(help.contains(&format!("  {verb}")), "{verb} is not in the help");
        assert!(manual.contains(&format!("`{verb}")), "{verb} is not in the manual");
        assert!(harness.command(&[verb, "--help"]).output().expect("runs").status.success());
    }
    assert_eq!(harness.command(&["no-such-verb"]).output().expect("runs").status.code(), Some(64));
}

#[test]
fn every_code_has_exit_code() {
    let codes = groundskeeper::core::Code::ALL;
    for code in codes {
        assert!([1, 2, 3, 4, 64].contains(&code.kind().exit_code()), "{code}");
        assert!(!code.as_str().contains("unknown"));
    }
    assert!(Path::new(&root()).join("schema/events").is_dir());
}
