//! Environment variables of the caller: inside a git hook of another repository, `GIT_*` variables
//! would direct every git command to that repository.

use std::path::{Path, PathBuf};

use crate::support::Harness;

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// Variables that git sets for its hooks, and similar ones, all for another repository.
fn foreign_variables(other: &Path) -> Vec<(&'static str, String)> {
    let below = |name: &str| other.join(".git").join(name).display().to_string();
    vec![
        ("GIT_DIR", below("")),
        ("GIT_INDEX_FILE", below("index")),
        ("GIT_WORK_TREE", other.display().to_string()),
        ("GIT_COMMON_DIR", below("")),
        ("GIT_OBJECT_DIRECTORY", below("objects")),
        ("GIT_ALTERNATE_OBJECT_DIRECTORIES", below("objects")),
        ("GIT_PREFIX", "dir0/".to_owned()),
        ("GIT_NAMESPACE", "elsewhere".to_owned()),
        ("GIT_QUARANTINE_PATH", below("objects/incoming")),
        ("GIT_ATTR_SOURCE", "refs/heads/nowhere".to_owned()),
        ("GIT_SHALLOW_FILE", "/nowhere".to_owned()),
        ("GIT_GRAFT_FILE", "/nowhere".to_owned()),
        ("GIT_TRACE", "1".to_owned()),
        ("GIT_TRACE2_EVENT", other.join("trace").display().to_string()),
        ("GIT_DEFAULT_HASH", "sha256".to_owned()),
        ("GIT_REPLACE_REF_BASE", "refs/elsewhere/".to_owned()),
    ]
}

/// Identity and configuration variables that a caller sets for a single command.
fn author_variables() -> Vec<(&'static str, String)> {
    [
        ("GIT_AUTHOR_NAME", "Leaked"),
        ("GIT_COMMITTER_NAME", "Leaked"),
        ("GIT_COMMITTER_DATE", "2001-01-01T00:00:00Z"),
        ("GIT_CONFIG_COUNT", "1"),
        ("GIT_CONFIG_KEY_0", "user.email"),
        ("GIT_CONFIG_VALUE_0", "leaked@example.org"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .to_vec()
}

struct Place {
    harness: Harness,
    repo: PathBuf,
    other: PathBuf,
    before: String,
}

impl Place {
    fn new() -> Self {
        let harness = Harness::new();
        let (repo, other) = (harness.repo("project", 3), harness.repo("other", 3));
        let before = Self::read_state(&harness, &other);
        Self { harness, repo, other, before }
    }

    fn read_state(harness: &Harness, other: &Path) -> String {
        let files = harness.git(other, &["status", "--porcelain"]);
        files + &harness.git(other, &["for-each-ref"]) + &harness.git(other, &["ls-files", "-s"])
    }

    /// Runs the program with variables that point to another repository.
    fn run_with_leaks(&self, args: &[&str], more: &[(&'static str, String)]) -> (i32, String) {
        let mut command = self.harness.command(args);
        command.envs(foreign_variables(&self.other)).envs(more.iter().cloned());
        let done = command.output().expect("it runs");
        let printed = String::from_utf8_lossy(&done.stderr).into_owned();
        let out = String::from_utf8_lossy(&done.stdout).into_owned();
        (done.status.code().unwrap_or(-1), out + &printed)
    }

    fn check_other_untouched(&self) {
        assert_eq!(Self::read_state(&self.harness, &self.other), self.before);
        assert!(!self.other.join("trace").exists(), "nothing was traced");
    }
}

/// Variables that locate a repository are dropped, so the commit lands in the environment.
#[test]
fn exec_keeps_author_settings() {
    let place = Place::new();
    let path = place.harness.new_env("a", &place.repo, &[]);
    let commit =
        "echo work > w && git add -A && git commit -qm work && git rev-parse --show-toplevel";
    let args = ["exec", "a", "--", "sh", "-c", commit];
    let (code, printed) = place.run_with_leaks(&args, &author_variables());
    assert_eq!((code, printed.trim()), (0, text(&path)));
    let who = place.harness.git(&path, &["log", "-1", "--format=%an %cn %ce %s"]);
    assert_eq!(who, "Leaked Leaked leaked@example.org work", "author settings of the caller apply");
    place.check_other_untouched();
}

/// The daemon, its hooks and its git ignore the `GIT_*` variables of a caller inside a hook.
#[test]
fn inherited_git_variables_do_not_leak() {
    let place = Place::new();
    let script = "#!/bin/sh\nset -e\nenv | grep ^GIT_ > seen || true\necho made > made\n\
                  git add made\ngit commit -q --allow-empty -m from-setup\n";
    place.harness.hook(&place.repo, script);
    let repo = text(&place.repo).to_owned();
    let (code, printed) = place.run_with_leaks(&["trust", "--repo", &repo], &author_variables());
    assert_eq!(code, 0, "{printed}");
    let (code, printed) = place.run_with_leaks(&["new", "a", "--repo", &repo], &author_variables());
    assert_eq!(code, 0, "{printed}");
    let path = PathBuf::from(place.harness.ok(&["show", "a"])["path"].as_str().expect("a path"));
    assert_eq!(std::fs::read_to_string(path.join("seen")).expect("read"), "");
    let who = place.harness.git(&path, &["log", "-1", "--format=%an %s"]);
    assert_eq!(who, "Test from-setup");
    place.harness.git(&path, &["fsck", "--no-dangling"]);
    place.harness.write(&path.join("more"), "work\n");
    let (code, printed) = place.run_with_leaks(&["rm", "a", "--force"], &author_variables());
    assert_eq!(code, 0, "{printed}");
    place.harness.ok(&["trash", "empty"]);
    place.harness.ok(&["restore", "a"]);
    assert_eq!(std::fs::read_to_string(path.join("more")).expect("back"), "work\n");
    place.check_other_untouched();
}

/// `GIT_DIR` of the caller does not.
#[test]
fn current_directory_selects_repository() {
    let place = Place::new();
    let mut command = place.harness.command(&["new", "a"]);
    command.envs(foreign_variables(&place.other)).current_dir(&place.repo);
    assert!(command.output().expect("it runs").status.success());
    let path = place.harness.ok(&["show", "a"])["path"].as_str().expect("a path").to_owned();
    let common = place.harness.git(Path::new(&path), &["rev-parse", "--git-common-dir"]);
    assert_eq!(common, text(&place.repo.join(".git")));
    place.check_other_untouched();
}
