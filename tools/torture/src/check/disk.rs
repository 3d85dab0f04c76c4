//! What is on disk is what the daemon says there is: no stranded directory, registration, lock or
//! temporary file, and nothing missing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Findings;
use crate::ground::{FOREIGN, Ground};
use crate::trouble::Trouble;

/// What a data directory consists of.
const KNOWN: [&str; 19] = [
    "ballast",
    "log-archive",
    "daemon.json",
    "daemon.lock",
    "daemon.log",
    "daemon.sock",
    "high-water",
    "identity",
    "locks",
    "log.redb",
    "migrations",
    "rescue",
    "scratch",
    "spare",
    "token",
    "transcripts",
    "trash",
    "worktrees",
    "server",
];

pub(crate) fn check(
    ground: &Ground,
    environments: &[Value],
    findings: &mut Findings<'_>,
) -> Result<(), Trouble> {
    let mut places = BTreeSet::from([FOREIGN.to_owned()]);
    let mut expected = BTreeSet::new();
    for env in environments {
        let id = env["id"].as_str().unwrap_or_default();
        let path = PathBuf::from(env["path"].as_str().unwrap_or_default());
        let managed = path.starts_with(ground.data());
        let here = env["phase"] == "ready" || !env["checkout"].is_null();
        // One that was adopted stays where it is, whatever became of it here.
        findings.unless(path.exists() == (here || !managed), || {
            format!("{id} is {} and its directory is {}", env["phase"], path.exists())
        });
        findings.unless(env["leftovers"].as_array().is_none_or(Vec::is_empty), || {
            format!("{id} has left {}", env["leftovers"])
        });
        if here && managed {
            places.insert(id.to_owned());
            expected.insert(path);
        }
    }
    folders(ground, &places, findings)?;
    registrations(ground, &expected, findings)
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

fn folders(
    ground: &Ground,
    places: &BTreeSet<String>,
    findings: &mut Findings<'_>,
) -> Result<(), Trouble> {
    let data = ground.data();
    let mut there = names(&data.join("worktrees"));
    there.remove(".trash");
    for name in there.difference(places) {
        findings.add(format!("worktrees/{name} is stranded"));
    }
    for name in places.difference(&there) {
        findings.add(format!("worktrees/{name} is missing"));
    }
    for name in names(&data.join("scratch")) {
        findings.add(format!("scratch/{name} is left"));
    }
    for name in names(&data).iter().filter(|name| !KNOWN.contains(&name.as_str())) {
        findings.add(format!("{name} is left in the data directory"));
    }
    let listed = ground.gk(&["trash", "ls"])?.json();
    let kept: BTreeSet<PathBuf> = listed
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|t| Path::new(t["trash"].as_str()?).parent().map(Path::to_owned))
        .collect();
    for folder in [data.join("trash"), data.join("worktrees/.trash")] {
        for path in names(&folder).iter().map(|name| folder.join(name)) {
            findings.unless(kept.contains(&path), || {
                format!("{} is stranded: the trash does not list it", path.display())
            });
        }
    }
    copies(ground, findings)?;
    for path in &kept {
        findings.unless(path.exists(), || format!("{} is listed and not there", path.display()));
    }
    Ok(())
}

/// Copies of files are those of a life that is there, or that has left something.
fn copies(ground: &Ground, findings: &mut Findings<'_>) -> Result<(), Trouble> {
    let mut lives = BTreeSet::new();
    for verb in [&["ls"][..], &["trash", "ls"], &["rescue", "ls"]] {
        let listed = ground.gk(verb)?.json();
        lives.extend(listed.as_array().into_iter().flatten().map(|entry| {
            format!("{}.{}", entry["id"].as_str().unwrap_or_default(), entry["incarnation"])
        }));
    }
    for name in names(&ground.data().join("rescue")) {
        let life = name.rsplit_once('-').map_or(name.as_str(), |(life, _)| life);
        findings.unless(lives.contains(life), || format!("rescue/{name} is stranded"));
    }
    Ok(())
}

fn registrations(
    ground: &Ground,
    expected: &BTreeSet<PathBuf>,
    findings: &mut Findings<'_>,
) -> Result<(), Trouble> {
    let repo = ground.repo();
    let listed = ground.must_git(&repo, &["worktree", "list", "--porcelain", "-z"])?;
    let listed: BTreeSet<PathBuf> = listed
        .split('\0')
        .filter_map(|line| line.strip_prefix("worktree ").map(PathBuf::from))
        .filter(|path| path.starts_with(ground.data()))
        .collect();
    for path in listed.difference(expected) {
        findings.add(format!("a registration of {} is stranded", path.display()));
    }
    for path in expected.difference(&listed) {
        findings.add(format!("git does not know {}", path.display()));
    }
    let prune = ground.git(&repo, &["worktree", "prune", "-n", "-v"])?;
    let printed = format!("{}{}", prune.out, prune.err);
    findings.unless(printed.trim().is_empty(), || format!("git would prune: {}", printed.trim()));
    let fsck = ground.git(&repo, &["fsck", "--strict", "--no-dangling"])?;
    findings.unless(fsck.ok(), || format!("git fsck: {}{}", fsck.out, fsck.err));
    for name in names(&repo.join(".git/groundskeeper")) {
        findings.unless(name.ends_with(".removed"), || format!("{name} is left half done"));
    }
    let mut locks = Vec::new();
    locks_below(&repo.join(".git"), &mut locks);
    for lock in locks {
        findings.add(format!("{} is left", lock.display()));
    }
    Ok(())
}

fn locks_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            locks_below(&path, found);
        } else if path.extension().is_some_and(|e| e == "lock") {
            found.push(path);
        }
    }
}

/// After the end of a daemon nobody holds a lock of its data directory.
pub(crate) fn locks(ground: &Ground, findings: &mut Findings<'_>) {
    let folder = ground.data().join("locks");
    let mut all: Vec<PathBuf> = names(&folder).iter().map(|name| folder.join(name)).collect();
    all.push(ground.data().join("daemon.lock"));
    for path in all {
        let held = std::fs::File::open(&path).is_ok_and(|file| file.try_lock().is_err());
        findings.unless(!held, || format!("somebody holds {}", path.display()));
    }
}
