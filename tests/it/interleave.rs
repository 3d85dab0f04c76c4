//! Random interleavings of all verbs, with kills: no byte of work is ever lost.
//!
//! Every piece of work is a file with a unique number. At the end each must be in a worktree, in
//! the trash, or reachable from a ref, after everything else was pruned. The only intended loss is
//! ignored files in a trash that was emptied.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;

use crate::support::{Daemon, Harness};

const NAMES: [&str; 3] = ["a", "b", "c"];
const ACTS: usize = 120;
const SEEDS: u64 = 3;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).expect("small")
    }
}

fn run_ok(harness: &Harness, args: &[&str]) -> bool {
    let mut all = vec!["--json", "--no-autostart"];
    all.extend(args);
    let mut command = harness.command(&all);
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("runs").success()
}

fn files_below(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            files_below(&entry.path(), found);
        } else {
            found.insert(entry.file_name().to_string_lossy().into_owned());
        }
    }
}

/// Adds a piece of work to a worktree, in one of its forms (untracked, staged, committed, ...).
fn add_work(harness: &Harness, place: &Path, form: usize, name: &str) {
    let file = place.join(name);
    // A removal may move the directory away at the same time.
    if std::fs::write(&file, format!("{name}\n")).is_err() {
        return;
    }
    let git = |args: &[&str]| drop(harness.git_raw(place, args));
    match form {
        0 => {}
        1 => git(&["add", name]),
        2 => {
            git(&["add", name]);
            git(&["commit", "-q", "-m", name]);
        }
        3 => git(&["stash", "push", "-q", "-u"]),
        _ => {
            git(&["add", name]);
            git(&["commit", "-q", "-m", name]);
            git(&["switch", "-q", "--detach"]);
        }
    }
}

/// Runs one seeded history. Returns the number of pieces of work, and the lost ones.
fn history(seed: u64, rescue: bool) -> (usize, Vec<String>) {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.write(&repo.join(".gitignore"), "target/\n");
    harness.commit(&repo, "ignore");
    let text = repo.to_str().expect("text");
    let mut random = Random(seed);
    let mut daemon = Some(Daemon::start(&harness));
    let mut made = BTreeSet::new();
    for n in 0..ACTS {
        let id = NAMES[random.below(NAMES.len())];
        let place = harness.data().join("worktrees").join(id).join("project");
        match random.below(12) {
            0 | 1 => drop(run_ok(&harness, &["new", id, "--repo", text])),
            2..=5 => {
                let name = format!("work-{n}");
                if !place.exists() {
                    run_ok(&harness, &["new", id, "--repo", text]);
                }
                let is_there = || place.join(".git").exists();
                if is_there() {
                    add_work(&harness, &place, random.below(5), &name);
                    made.extend(is_there().then_some(name));
                }
            }
            6 => drop(run_ok(&harness, &["rm", id])),
            7 | 8 => {
                let more = if rescue { "--branch=delete" } else { "--no-rescue" };
                run_ok(&harness, &["rm", id, "--force", more]);
            }
            9 => drop(run_ok(&harness, &["restore", id])),
            10 => drop(run_ok(&harness, &["trash", "empty"])),
            _ => {
                if let Some(mut dying) = daemon.take() {
                    // The kill hits a removal in progress.
                    let mut last = harness.command(&["--no-autostart", "rm", id, "--force"]);
                    let last = last.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
                    dying.kill();
                    drop(last.expect("started").wait());
                }
                daemon = Some(Daemon::start(&harness));
            }
        }
    }
    harness.drain();
    harness.git(&repo, &["reflog", "expire", "--expire=now", "refs/heads/main"]);
    harness.git(&repo, &["gc", "-q", "--prune=now"]);
    let mut there = BTreeSet::new();
    files_below(&harness.data().join("worktrees"), &mut there);
    files_below(&harness.data().join("trash"), &mut there);
    let stashes = harness.git_raw(&repo, &["reflog", "show", "--format=%H", "refs/stash", "--"]);
    let stashes = String::from_utf8_lossy(&stashes.stdout).into_owned();
    let mut args = vec!["rev-list", "--objects", "--all"];
    args.extend(stashes.lines());
    let objects = harness.git(&repo, &args);
    there.extend(objects.lines().filter_map(|l| l.split_once(' ')).map(|(_, p)| p.to_owned()));
    let lost: Vec<String> = made.difference(&there).cloned().collect();
    eprintln!("seed {seed}: {} pieces of work, {} lost", made.len(), lost.len());
    (made.len(), lost)
}

fn seed(n: u64) -> u64 {
    ((u64::from(std::process::id()) * 2_654_435_761) | 1).wrapping_add(n * 7_919)
}

#[test]
fn random_interleavings_lose_no_work() {
    for n in 0..SEEDS {
        let (made, lost) = history(seed(n), true);
        assert!(made > 0 && lost.is_empty(), "seed {}: {lost:?} are lost", seed(n));
    }
}

/// Negative control: without rescues the same histories must lose something.
#[test]
fn interleavings_without_rescues_lose_work() {
    let lost = (0..5 * SEEDS).any(|n| !history(seed(n), false).1.is_empty());
    assert!(lost, "the negative control lost nothing");
}
