//! Filters git's own variables out of the environment that a child process inherits.
//!
//! A program that is started inside a git hook finds `GIT_DIR`, `GIT_INDEX_FILE` and more
//! in its environment. A git below it works on that repository, whatever its directory.
//! There are two filters:
//!
//! * [`isolate`] for processes that work on their own account (our git, hooks, the daemon): of all
//!   `GIT_*` variables only those stay that configure the connection to a server and name the
//!   user's own settings;
//! * [`relocate`] for a command that the user runs in an environment: variables that locate a
//!   repository, an index or an object store are removed; the rest (author, committer,
//!   `GIT_CONFIG_*`) stays.
//!
//! Nothing here changes the environment of this process.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;

use crate::failpoint::guard;

/// Variables that locate a repository, an index or an object store: the output of `git rev-parse
/// --local-env-vars`, and some that it lacks. A final star matches any suffix.
const LOCATING: [&str; 21] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_ATTR_SOURCE",
    "GIT_CEILING_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_DEFAULT_HASH",
    "GIT_DIR",
    "GIT_DISCOVERY_ACROSS_FILESYSTEM",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_*",
    "GIT_NAMESPACE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_QUARANTINE_PATH",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_TRACE*",
    "GIT_WORK_TREE",
];

/// Variables that [`isolate`] keeps. The three that name files with the user's settings stay as
/// `HOME` stays: git sets none of them for its hooks.
const KEPT: [&str; 14] = [
    "GIT_ALLOW_PROTOCOL",
    "GIT_ASKPASS",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_CONFIG_SYSTEM",
    "GIT_EXEC_PATH",
    "GIT_HTTP_*",
    "GIT_LFS_*",
    "GIT_PROXY_*",
    "GIT_PROTOCOL_FROM_USER",
    "GIT_SSH",
    "GIT_SSH_*",
    "GIT_SSL_*",
    "GIT_TEXTDOMAINDIR",
];

/// Removes all but the kept `GIT_*` variables, for our git, for hooks and for the daemon.
pub fn isolate(command: &mut Command) {
    for name in taken().filter(|name| is_git(name) && !is_among(&KEPT, name)) {
        command.env_remove(name);
    }
}

/// Removes the locating variables, for a command that the user runs in an environment.
pub fn relocate(command: &mut Command) {
    for name in taken().filter(|name| is_among(&LOCATING, name)) {
        command.env_remove(name);
    }
}

/// Returns all variable names, unless the test guard `caller` is off.
fn taken() -> impl Iterator<Item = OsString> {
    names().filter(|_| guard::stands("caller"))
}

fn names() -> impl Iterator<Item = OsString> {
    std::env::vars_os().map(|(name, _)| name)
}

fn is_git(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b"GIT_")
}

fn is_among(patterns: &[&str], name: &OsStr) -> bool {
    patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(start) => name.as_bytes().starts_with(start.as_bytes()),
        None => name.as_bytes() == pattern.as_bytes(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares the list with git's own list of repository-local variables.
    #[test]
    fn every_local_git_variable_is_covered() {
        let listed = Command::new("git").args(["rev-parse", "--local-env-vars"]).output();
        let listed = String::from_utf8(listed.expect("git runs").stdout).expect("text");
        assert!(listed.lines().count() > 10, "{listed}");
        for name in listed.lines().map(OsStr::new) {
            // Settings of one command: only a command of the user keeps them.
            let settings = name.as_bytes().starts_with(b"GIT_CONFIG_");
            assert!(is_among(&LOCATING, name) || settings, "{name:?} is not in the list");
            assert!(!is_among(&KEPT, name), "{name:?} stays");
        }
        for name in ["GIT_TRACE2_EVENT", "GIT_QUARANTINE_PATH", "GIT_ATTR_SOURCE"] {
            assert!(is_among(&LOCATING, name.as_ref()), "{name}");
        }
        for name in ["GIT_AUTHOR_NAME", "GIT_CONFIG_COUNT", "GIT_CONFIG_KEY_0", "GIT_EDITOR"] {
            let name = OsStr::new(name);
            assert!(!is_among(&LOCATING, name) && !is_among(&KEPT, name), "{name:?}");
        }
    }
}
