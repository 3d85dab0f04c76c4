//! Status without a watch: an answer that is proven to hold costs no process, and every change that
//! a status shows ends the proof.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::api::call;
use crate::differential::{Random, TREE, change, compare, shuffle, watch_metrics};
use crate::support::{Daemon, Harness};

const SEEDS: u64 = 4;
const STEPS: usize = 30;
/// Questions after which a worktree counts as one that gives no proof.
const ASKED_MAX: usize = 40;

fn computed(harness: &Harness) -> u64 {
    watch_metrics(harness)["statuses_computed"].as_u64().expect("a count")
}

fn status(harness: &Harness, id: &str) -> Value {
    let (code, status) = call(harness, "GET", &format!("/v1/environments/{id}/status"), "", "");
    assert_eq!(code, 200, "{status:#}");
    status
}

/// Asks until an answer costs nothing. Returns false if none does.
fn is_proven(harness: &Harness, id: &str) -> bool {
    (0..ASKED_MAX).any(|_| {
        let before = computed(harness);
        status(harness, id);
        computed(harness) == before
    })
}

fn repository(harness: &Harness, name: &str) -> PathBuf {
    let repo = harness.repo(name, 4);
    harness.write(&repo.join(".gitignore"), "*.ignored\nbuilt\n");
    for name in TREE.into_iter().step_by(2) {
        harness.write(&repo.join(name), &format!("{name}\n").repeat(3));
    }
    harness.commit(&repo, "names");
    harness.git(&repo, &["switch", "-q", "-c", "other"]);
    harness.write(&repo.join("a"), "theirs\n");
    harness.commit(&repo, "theirs");
    harness.git(&repo, &["switch", "-q", "-"]);
    repo
}

/// Each change is made while the last answer is proven, and each answer is compared with git's.
#[test]
fn proven_status_matches_git_after_every_change() {
    let harness = Harness::new();
    let _daemon = Daemon::start(&harness);
    let (mut proven, mut steps) = (0, 0);
    for seed in 0..SEEDS {
        let repo = repository(&harness, &format!("project{seed}"));
        let id = format!("env{seed}");
        let at = harness.new_env(&id, &repo, &[]);
        let mut random = Random(seed + 901);
        for _ in 0..STEPS {
            proven += usize::from(is_proven(&harness, &id));
            steps += 1;
            if random.below(3) == 0 {
                change(&harness, &at, &mut random);
            } else {
                let path = at.join(TREE[random.below(TREE.len())]);
                shuffle(&harness, &at, &path, &mut random);
            }
            // The second answer may be a proven one.
            compare(&harness, &id, &at, seed);
            compare(&harness, &id, &at, seed);
        }
    }
    eprintln!("{proven} of {steps} answers were proven");
    assert!(proven * 10 > steps * 9, "only {proven} of {steps} answers were proven");
}

/// A worktree with one file of each kind, and what the environment was made from.
struct Place<'a> {
    harness: &'a Harness,
    repo: PathBuf,
    at: PathBuf,
}

impl Place<'_> {
    fn git(&self, args: &[&str]) {
        drop(self.harness.git(&self.at, args));
    }

    fn write(&self, name: &str, text: &str) {
        self.harness.write(&self.at.join(name), text);
    }

    /// Writes a file of the same size, and gives it its former time.
    fn write_unnoticed(&self, name: &str, text: &str) {
        let path = self.at.join(name);
        let before = path.metadata().and_then(|found| found.modified()).expect("a time");
        assert_eq!(std::fs::read(&path).expect("read").len(), text.len(), "the same size");
        std::fs::write(&path, text).expect("written");
        let file = std::fs::File::options().write(true).open(&path).expect("opened");
        file.set_modified(before).expect("dated");
    }

    fn append(&self, path: &Path, text: &str) {
        let before = std::fs::read_to_string(path).unwrap_or_default();
        self.harness.write(path, &(before + text));
    }
}

type Act = fn(&Place<'_>);

/// Every kind of change that a status shows, by name.
const ACTS: [(&str, Act); 27] = [
    ("same size and time", |p| p.write_unnoticed("a", "A\nA\nA\n")),
    ("mode", |p| {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(p.at.join("a"), mode).expect("set");
    }),
    ("file removed", |p| std::fs::remove_file(p.at.join("a")).expect("removed")),
    ("directory removed", |p| std::fs::remove_dir_all(p.at.join("deep")).expect("removed")),
    ("link in place of a file", |p| {
        std::fs::remove_file(p.at.join("a")).expect("removed");
        std::os::unix::fs::symlink("dir/x", p.at.join("a")).expect("linked");
    }),
    ("untracked file", |p| p.write("fresh", "x")),
    ("untracked file in a tracked directory", |p| p.write("deep/er/fresh", "x")),
    ("file in an empty directory", |p| p.write("empty/inner/fresh", "x")),
    ("file in a directory of ignored files", |p| p.write("only/fresh", "x")),
    ("untracked directory emptied", |p| {
        std::fs::remove_file(p.at.join("loose/one")).expect("removed");
    }),
    ("ignored file is no longer ignored", |p| p.write(".gitignore", "built\n")),
    ("ignored directory is no longer ignored", |p| p.write(".gitignore", "*.ignored\n")),
    ("untracked ignore file edited", |p| p.write("deep/.gitignore", "loose\n")),
    ("ignore file made", |p| p.write("loose/.gitignore", "*\n")),
    ("rules of the repository", |p| {
        p.append(&p.repo.join(".git/info/exclude"), "loose\n");
    }),
    ("rules of the user", |p| {
        p.append(&p.harness.path("home/.config/git/ignore"), "loose\n");
    }),
    ("settings of the repository", |p| {
        p.harness.write(&p.harness.path("rules"), "loose\n");
        let rules = p.harness.path("rules").to_string_lossy().into_owned();
        drop(p.harness.git(&p.repo, &["config", "core.excludesFile", &rules]));
    }),
    ("settings of the user", |p| {
        p.harness.write(&p.harness.path("home/rules"), "loose\n");
        p.append(&p.harness.path("home/.gitconfig"), "[core]\n excludesFile = ~/rules\n");
    }),
    ("staged", |p| p.git(&["add", "loose/one"])),
    ("committed", |p| p.git(&["commit", "-q", "--allow-empty", "-m", "work"])),
    ("another branch at the same commit", |p| p.git(&["switch", "-q", "-c", "side"])),
    ("merge begun", |p| p.git(&["merge", "-q", "--no-commit", "--no-ff", "other"])),
    ("stash of another worktree", |p| {
        p.harness.write(&p.repo.join("a"), "stashed\n");
        drop(p.harness.git(&p.repo, &["stash", "-q"]));
    }),
    ("the base has moved on", |p| {
        drop(p.harness.git(&p.repo, &["commit", "-q", "--allow-empty", "-m", "more"]));
    }),
    ("upstream set", |p| p.git(&["branch", "-q", "--set-upstream-to", "other"])),
    ("attributes of the user", |p| {
        p.append(&p.harness.path("home/attributes"), "marked filter=marked\n");
    }),
    ("attributes of the repository", |p| {
        p.harness.write(&p.repo.join(".git/info/attributes"), "marked filter=marked\n");
    }),
];

/// A proof covers what is listed here, and nothing of it is noticed late.
#[test]
fn every_kind_of_change_ends_the_proof() {
    for (name, act) in ACTS {
        let harness = Harness::new();
        let _daemon = Daemon::start(&harness);
        let repo = repository(&harness, "project");
        harness.git(&repo, &["config", "filter.marked.clean", "tr A-Z a-z"]);
        harness.write(&repo.join("marked"), "text\n");
        harness.commit(&repo, "marked");
        let attributes = harness.path("home/attributes").to_string_lossy().into_owned();
        harness.git(&repo, &["config", "core.attributesFile", &attributes]);
        let at = harness.new_env("demo", &repo, &["--base", "main"]);
        let place = Place { harness: &harness, repo, at };
        std::fs::create_dir_all(place.at.join("empty/inner")).expect("made");
        place.write("only/one.ignored", "x");
        place.write("deep/.gitignore", "# nothing\n");
        place.write("deep/loose", "x");
        place.write("loose/one", "x");
        place.write("built/much", "x");
        place.write("marked", "TEXT\n");
        assert!(is_proven(&harness, "demo"), "{name}: never proven");
        let before = status(&harness, "demo");
        act(&place);
        compare(&harness, "demo", &place.at, 0);
        let after = status(&harness, "demo");
        assert_ne!(before, after, "{name}: the change is not shown");
        is_proven(&harness, "demo");
        compare(&harness, "demo", &place.at, 0);
    }
}

#[test]
fn unchanged_worktrees_cost_no_process() {
    let harness = Harness::new();
    let _daemon = Daemon::start(&harness);
    let repo = repository(&harness, "project");
    let ids: Vec<String> = (0..6).map(|n| format!("env{n}")).collect();
    for id in &ids {
        let at = harness.new_env(id, &repo, &[]);
        harness.write(&at.join("a"), "changed\n");
        harness.write(&at.join("fresh/one"), "untracked\n");
        assert!(is_proven(&harness, id), "{id}");
    }
    let before = computed(&harness);
    let (code, all) = call(&harness, "GET", "/v1/status", "", "");
    assert_eq!((code, all.as_array().map(Vec::len)), (200, Some(ids.len())), "{all:#}");
    assert_eq!(computed(&harness), before, "nothing was computed");
}
