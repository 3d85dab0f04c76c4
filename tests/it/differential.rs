//! Compares `status` with `git status` over seeded random repositories.

use std::path::Path;

use serde_json::Value;

use crate::api::call;
use crate::support::{Daemon, Harness};

const SEEDS: u64 = 6;
const CHANGES: usize = 14;

/// Paths that are files in one step and directories in the next, with tracked and untracked ones
/// side by side.
pub(crate) const TREE: [&str; 16] = [
    "a",
    "new",
    "a.txt",
    "case",
    "Case",
    "a-b",
    "deep/er/file",
    "deep/other",
    "deep/er/more",
    "new/in/side",
    "dir/x",
    "new/x.ignored",
    "dir/ü",
    "new/in/y",
    ":(top)dir",
    "*",
];
const STEPS: usize = 40;

/// A random generator without dependencies, so that a seed always gives the same repository.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n
    }

    fn name(&mut self) -> String {
        const NAMES: [&str; 12] = [
            "plain",
            "two words",
            "ümläut",
            "日本",
            "quote\"d",
            "tab\tbed",
            "Case",
            "case",
            "-dash",
            "deep/er/file",
            "deep/other",
            "x.ignored",
        ];
        NAMES[self.below(NAMES.len())].to_owned()
    }
}

/// Makes one seeded change of a worktree. Has no effect if git refuses the change.
pub(crate) fn change(harness: &Harness, at: &Path, random: &mut Random) {
    let name = random.name();
    let path = at.join(&name);
    let text = format!("{}\n", random.below(1_000)).repeat(1 + random.below(5));
    match random.below(16) {
        0..=3 => {
            drop(std::fs::create_dir_all(path.parent().expect("a folder")));
            drop(std::fs::write(&path, text));
        }
        4 => drop(std::fs::remove_file(&path)),
        5 => drop(harness.git_raw(at, &["add", "-A"])),
        6 => drop(harness.git_raw(at, &["add", "--", &name])),
        7 => drop(harness.git_raw(at, &["mv", "--", &name, &format!("moved {}", random.below(9))])),
        8 => drop(harness.git_raw(at, &["rm", "-q", "--cached", "--", &name])),
        9 => {
            drop(std::fs::remove_file(&path));
            drop(std::os::unix::fs::symlink("elsewhere", &path));
        }
        10 => drop(harness.git_raw(at, &["commit", "-q", "-a", "-m", "work"])),
        11 => drop(harness.git_raw(at, &["add", "-N", "--", &name])),
        12 => drop(harness.git_raw(at, &["update-index", "--skip-worktree", "--", &name])),
        13 => drop(harness.git_raw(at, &["stash", "-q"])),
        14 => {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::Permissions::from_mode(0o755);
            drop(std::fs::set_permissions(&path, mode));
        }
        _ => {
            // This merge usually ends in a conflict.
            drop(harness.git_raw(at, &["merge", "-q", "--no-edit", "other"]));
        }
    }
}

/// Creates, changes, moves or removes files and directories, and sometimes stages a change.
pub(crate) fn shuffle(harness: &Harness, at: &Path, path: &Path, random: &mut Random) {
    let other = at.join(TREE[random.below(TREE.len())]);
    match random.below(24) {
        0..=8 => {
            drop(std::fs::create_dir_all(path.parent().expect("a folder")));
            drop(std::fs::write(path, format!("{}\n", random.below(9))));
        }
        9..=12 => drop(std::fs::remove_file(path)),
        13..=14 => drop(std::fs::remove_dir_all(path)),
        15..=16 => {
            drop(std::fs::remove_dir_all(path.parent().filter(|p| *p != at).unwrap_or(path)));
        }
        17..=19 => drop(std::fs::rename(path, other)),
        20 => drop(std::os::unix::fs::symlink("a", path)),
        21 => drop(std::fs::create_dir_all(path.join("empty"))),
        22 => drop(harness.git_raw(at, &["checkout", "-q", "--", "."])),
        _ => {
            let name = path.strip_prefix(at).expect("inside").to_string_lossy().into_owned();
            drop(harness.git_raw(at, &["--literal-pathspecs", "add", "--", &name]));
        }
    }
}

/// Returns the result of `git status` in the terms of this program's status.
fn expected(harness: &Harness, at: &Path) -> Vec<(String, String)> {
    let printed = harness.git_raw(
        at,
        &[
            // The query itself must not write the index.
            "--no-optional-locks",
            "status",
            "--porcelain=v2",
            "-z",
            "--untracked-files=normal",
            "--branch",
            "--show-stash",
        ],
    );
    let text = String::from_utf8_lossy(&printed.stdout).into_owned();
    let mut parts = text.split('\0');
    let mut found = Vec::new();
    while let Some(line) = parts.next() {
        let fields = match line.chars().next() {
            Some('1') => 8,
            Some('2') => 9,
            Some('u') => 10,
            Some('?') => {
                found.push(("??".to_owned(), line[2..].to_owned()));
                continue;
            }
            _ => continue,
        };
        let words: Vec<&str> = line.splitn(fields + 1, ' ').collect();
        found.push((words[1].to_owned(), words[fields].to_owned()));
        if fields == 9 {
            parts.next();
        }
    }
    found
}

pub(crate) fn watch_metrics(harness: &Harness) -> Value {
    call(harness, "GET", "/v1/daemon", "", "").1["watching"].clone()
}

fn status_files(status: &Value) -> Vec<(String, String)> {
    let files = status["files"].as_array().expect("files");
    let text = |v: &Value| v.as_str().expect("text").to_owned();
    files.iter().map(|f| (text(&f["code"]), text(&f["path"]))).collect()
}

pub(crate) fn compare(harness: &Harness, id: &str, at: &Path, seed: u64) {
    let (code, status) = call(harness, "GET", &format!("/v1/environments/{id}/status"), "", "");
    assert_eq!(code, 200, "seed {seed}: {status:#}");
    assert_eq!(status_files(&status), expected(harness, at), "seed {seed}");
    let head = harness.git_raw(at, &["rev-parse", "--verify", "-q", "HEAD"]);
    let head = String::from_utf8_lossy(&head.stdout).trim().to_owned();
    assert_eq!(status["head"].as_str().unwrap_or_default(), head, "seed {seed}");
    let diff = ["-c", "diff.autoRefreshIndex=false", "diff", "--numstat", "--find-renames", "HEAD"];
    let numbers = harness.git_raw(at, &diff);
    let lines = String::from_utf8_lossy(&numbers.stdout).into_owned();
    let sum = |n: usize| -> u64 {
        lines.lines().filter_map(|l| l.split('\t').nth(n)?.parse::<u64>().ok()).sum()
    };
    let ours = (status["insertions"].as_u64(), status["deletions"].as_u64());
    assert_eq!(ours, (Some(sum(0)), Some(sum(1))), "seed {seed}: lines");
    let stashes = harness.git(at, &["stash", "list"]).lines().count() as u64;
    assert_eq!(status["stashes"].as_u64(), Some(stashes), "seed {seed}: stashes");
    let merging = harness.git_raw(at, &["rev-parse", "-q", "--verify", "MERGE_HEAD"]).status;
    assert_eq!(status["operation"] == "merge", merging.success(), "seed {seed}: {status:#}");
}

#[test]
fn incremental_status_matches_git() {
    let harness = Harness::new();
    let _daemon = Daemon::start(&harness);
    for seed in 0..SEEDS {
        let repo = harness.repo(format!("project{seed}"), 4);
        harness.write(&repo.join(".gitignore"), "*.ignored\n");
        for name in TREE.into_iter().step_by(2) {
            harness.write(&repo.join(name), &format!("{name}\n").repeat(3));
        }
        if seed % 2 == 1 {
            harness.git(&repo, &["config", "core.ignoreCase", "true"]);
        }
        harness.commit(&repo, "names");
        let id = format!("env{seed}");
        let at = harness.new_env(&id, &repo, &[]);
        harness.ok(&["lease", &id, "--for", "1h"]);
        let mut random = Random(seed + 77);
        for _ in 0..STEPS {
            for _ in 0..=random.below(4) {
                let path = at.join(TREE[random.below(TREE.len())]);
                shuffle(&harness, &at, &path, &mut random);
            }
            compare(&harness, &id, &at, seed);
        }
    }
    let partial = watch_metrics(&harness)["statuses_partial"].as_u64().expect("a count");
    assert!(partial > SEEDS * STEPS as u64 / 3, "only {partial} partial updates");
}

#[test]
fn status_matches_git_after_every_change() {
    let harness = Harness::new();
    let _daemon = Daemon::start(&harness);
    for seed in 0..SEEDS {
        let repo = harness.repo(format!("project{seed}"), 4);
        harness.write(&repo.join(".gitignore"), "*.ignored\n");
        for name in ["plain", "two words", "ümläut", "deep/er/file", "Case"] {
            harness.write(&repo.join(name), &format!("{name}\n").repeat(4));
        }
        harness.commit(&repo, "names");
        harness.git(&repo, &["switch", "-q", "-c", "other"]);
        harness.write(&repo.join("plain"), "theirs\n");
        harness.commit(&repo, "theirs");
        harness.git(&repo, &["switch", "-q", "-"]);
        let id = format!("env{seed}");
        let at = harness.new_env(&id, &repo, &[]);
        // A lease keeps the worktree watched: a stale answer then means that a change was missed.
        harness.ok(&["lease", &id, "--for", "1h"]);
        let mut random = Random(seed + 1);
        for _ in 0..CHANGES {
            change(&harness, &at, &mut random);
            compare(&harness, &id, &at, seed);
        }
    }
}

#[test]
fn unusual_checkouts_status_matches_git() {
    let harness = Harness::new();
    let _daemon = Daemon::start(&harness);
    let inner = harness.repo("inner", 2);
    let repo = harness.repo("project", 4);
    harness.write(&repo.join("kept/file"), "x\n");
    harness.git(&repo, &["add", "-A"]);
    let inner = inner.to_string_lossy().into_owned();
    harness.git(&repo, &["submodule", "--quiet", "add", &inner, "module"]);
    harness.git(&repo, &["commit", "-q", "-m", "module"]);

    let at = harness.new_env("sparse", &repo, &[]);
    harness.git(&at, &["sparse-checkout", "set", "kept"]);
    harness.write(&at.join("kept/file"), "changed\n");
    compare(&harness, "sparse", &at, 0);

    let at = harness.new_env("module", &repo, &[]);
    harness.git(&at, &["submodule", "--quiet", "update", "--init"]);
    harness.write(&at.join("module/new"), "x\n");
    compare(&harness, "module", &at, 0);

    let at = harness.new_env("unborn", &repo, &[]);
    harness.git(&at, &["switch", "-q", "--orphan", "fresh"]);
    harness.write(&at.join("first"), "x\n");
    harness.git(&at, &["add", "first"]);
    let found = harness.ok(&["status", "unborn"]);
    assert_eq!((found["unborn"].as_bool(), found["branch"].as_str()), (Some(true), Some("fresh")));
    assert_eq!(status_files(&found), expected(&harness, &at));

    let at = harness.new_env("rebase", &repo, &[]);
    harness.write(&at.join("kept/file"), "mine\n");
    harness.git(&at, &["commit", "-q", "-a", "-m", "mine"]);
    harness.git(&at, &["switch", "-q", "-c", "theirs", "HEAD~1"]);
    harness.write(&at.join("kept/file"), "theirs\n");
    harness.git(&at, &["commit", "-q", "-a", "-m", "theirs"]);
    assert!(!harness.git_raw(&at, &["rebase", "-q", "gk/rebase"]).status.success(), "a conflict");
    let found = harness.ok(&["status", "rebase"]);
    assert_eq!(
        (found["operation"].as_str(), found["conflicts"].as_u64()),
        (Some("rebase"), Some(1))
    );
    assert_eq!((found["detached"].as_bool(), found["changes"].as_str()), (Some(true), Some("!1")));
}
