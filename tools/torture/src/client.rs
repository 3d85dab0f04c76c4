//! Clients: each uses verb after verb, as chance has it, until the daemon is gone or time is up.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::Value;

use crate::agent;
use crate::child::{self, Finished};
use crate::ground::{ADOPTED, Ground};
use crate::model::Model;
use crate::random::Random;
use crate::trouble::Trouble;

/// Environments that all clients quarrel over.
pub(crate) const NAMES: [&str; 5] = ["a", "b", "c", "d", "bad"];

/// One history as its clients share it.
pub(crate) struct Stage<'a> {
    pub(crate) ground: &'a Ground,
    pub(crate) model: &'a Model,
    /// Time is up.
    pub(crate) over: AtomicBool,
    /// Clients are killed while they wait.
    pub(crate) cut: bool,
    /// Verbs that were used.
    pub(crate) operations: AtomicU64,
    /// Last epoch of a live set.
    pub(crate) epoch: &'a AtomicU64,
}

impl Stage<'_> {
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Uses a verb. What is said is noted; what must never be said is a finding.
    pub(crate) fn verb(&self, args: &[&str]) -> Result<Finished, Trouble> {
        let verb = args.first().copied().unwrap_or_default();
        let number = self.operations.fetch_add(1, Ordering::Relaxed);
        let mut command = self.ground.command(args);
        if self.cut && number % 2 == 1 {
            let mut client = child::Started::new(&mut command)?;
            let after = std::time::Duration::from_millis(number * 7 % 60);
            let late = !crate::time::until(after, || client.is_over());
            return client.end(late);
        }
        let done = child::run(&mut command)?;
        let printed = done.json();
        if done.late && !self.is_over() {
            self.model.found(format!("{args:?} did not return within {:?}", child::LIMIT));
        }
        if done.ok() {
            self.model.answered(verb, &printed);
        } else if !done.late {
            self.check_refusal(args, &done, &printed);
        }
        self.model.used(verb, done.ok());
        Ok(done)
    }

    /// A refusal has a code, words and a next step; a crash of the program is none.
    fn check_refusal(&self, args: &[&str], done: &Finished, printed: &Value) {
        let words = format!("{} {}", done.out, done.err);
        if words.to_lowercase().contains("unknown error") || words.contains("panicked at") {
            self.model.found(format!("{args:?} said: {}", words.trim()));
        }
        let error = &printed["error"];
        let speaks = error["hint"].as_str().is_some_and(|hint| !hint.is_empty());
        // The command of an exec has exit codes of its own.
        if !speaks && args.first() != Some(&"exec") && !self.is_over() {
            self.model.found(format!("{args:?} was refused without a next step: {}", words.trim()));
        }
    }
}

/// Uses verbs until it is over.
pub(crate) fn run(stage: &Stage<'_>, mut random: Random) -> Result<(), Trouble> {
    while !stage.is_over() {
        act(stage, &mut random)?;
    }
    Ok(())
}

fn act(stage: &Stage<'_>, random: &mut Random) -> Result<(), Trouble> {
    let id = random.pick(&NAMES).copied().unwrap_or("a");
    let (ground, model) = (stage.ground, stage.model);
    match random.below(40) {
        0..=5 => make(stage, random, id),
        6..=12 => agent::work(ground, model, random, id, stage.cut),
        13 => agent::reckless(ground, model, random, id),
        14 => agent::clutter(ground, id),
        15..=20 => remove(stage, random, id),
        21..=24 => restore(stage, random, id),
        25 | 26 => run_in(stage, random, id),
        27 => lease(stage, random, id),
        28 => everything(stage, random),
        29 => {
            // Before and after: what came into the trash meanwhile may have gone as well.
            model.trash_emptied();
            let all = random.one_in(2);
            let args = ["trash", "empty", id];
            stage.verb(if all { &args[..2] } else { &args })?;
            model.trash_emptied();
            Ok(())
        }
        30 => adopt(stage, random),
        31 => rescues(stage, random, id),
        _ => read_only_verb(stage, random, id),
    }
}

fn make(stage: &Stage<'_>, random: &mut Random, id: &str) -> Result<(), Trouble> {
    let lock = stage.model.lock_of(id);
    let _shared = lock.read().unwrap_or_else(PoisonError::into_inner);
    let repo = stage.ground.repo();
    let repo = repo.to_string_lossy();
    let mut args = vec!["new", id, "--repo", &repo];
    match random.below(6) {
        0 => args.extend(["--base", "HEAD~1"]),
        1 => args.push("--keep-failed"),
        2 => args.push("--no-setup"),
        _ => {}
    }
    stage.verb(&args).map(drop)
}

fn remove(stage: &Stage<'_>, random: &mut Random, id: &str) -> Result<(), Trouble> {
    let lock = stage.model.lock_of(id);
    let _shared = lock.read().unwrap_or_else(PoisonError::into_inner);
    let mut args = vec!["rm", id];
    match random.below(8) {
        0 => args.push("--dry-run"),
        1 => {}
        n => {
            args.push("--force");
            args.extend(["--branch=delete", "--branch=keep"].get(usize::from(n > 4)));
        }
    }
    if random.one_in(4) {
        args.push("--no-teardown");
    }
    stage.verb(&args).map(drop)
}

fn restore(stage: &Stage<'_>, random: &mut Random, id: &str) -> Result<(), Trouble> {
    let lock = stage.model.lock_of(id);
    let _shared = lock.read().unwrap_or_else(PoisonError::into_inner);
    let number = (1 + random.below(4)).to_string();
    let args = ["restore", id, "--incarnation", &number];
    stage.verb(if random.one_in(4) { &args } else { &args[..2] }).map(drop)
}

/// Commands in an environment; some leave a process behind, which goes with the environment.
fn run_in(stage: &Stage<'_>, random: &mut Random, id: &str) -> Result<(), Trouble> {
    let script = match random.below(3) {
        0 => "true",
        1 => "exit 7",
        _ => "setsid sh -c 'trap \"\" TERM; sleep 3000; true' >/dev/null 2>&1 </dev/null &",
    };
    stage.verb(&["exec", id, "--", "sh", "-c", script]).map(drop)
}

fn lease(stage: &Stage<'_>, random: &mut Random, id: &str) -> Result<(), Trouble> {
    if random.one_in(2)
        && let Some(lease) = stage.model.a_lease()
    {
        return stage.verb(&["release", &lease]).map(drop);
    }
    let time = if random.one_in(2) { "1s" } else { "1h" };
    let done = stage.verb(&["lease", id, "--for", time])?;
    if let Some(lease) = done.json()["id"].as_str() {
        stage.model.leased(lease);
    }
    Ok(())
}

/// What is about all environments at once.
fn everything(stage: &Stage<'_>, random: &mut Random) -> Result<(), Trouble> {
    let locks = stage.model.locks();
    let held: Vec<_> =
        locks.iter().map(|lock| lock.read().unwrap_or_else(PoisonError::into_inner)).collect();
    match random.below(4) {
        0 => stage.verb(&["gc", "--age", "0s"])?,
        1 => stage.verb(&["sweep", "--apply"])?,
        _ => {
            let alive: Vec<&str> =
                NAMES.into_iter().chain(ADOPTED).filter(|_| random.below(3) > 0).collect();
            let epoch = stage.epoch.fetch_add(1, Ordering::Relaxed) + 1;
            let epoch = epoch.saturating_sub(random.below(3)).to_string();
            let done = stage.verb(&["reconcile", "--live", &alive.join(","), "--epoch", &epoch])?;
            if done.json()["held"] == true {
                stage.verb(&["reconcile", "--confirm", &epoch])?;
            }
            done
        }
    };
    drop(held);
    Ok(())
}

fn adopt(stage: &Stage<'_>, random: &mut Random) -> Result<(), Trouble> {
    let id = random.pick(&ADOPTED).copied().unwrap_or("theirs-1");
    let path = stage.ground.adopted(id);
    if random.one_in(3) {
        return stage.verb(&["rm", id, "--force"]).map(drop);
    }
    stage.verb(&["adopt", &path.to_string_lossy(), "--id", id]).map(drop)
}

fn rescues(stage: &Stage<'_>, random: &mut Random, id: &str) -> Result<(), Trouble> {
    match random.below(4) {
        0 => {
            stage.model.rescue_dropped(id);
            stage.verb(&["rescue", "drop", id])?;
            stage.model.rescue_dropped(id);
            Ok(())
        }
        1 => stage.verb(&["rescue", "show", id]).map(drop),
        _ => stage.verb(&["rescue", "ls"]).map(drop),
    }
}

/// What changes nothing, and what drops only what can be rebuilt.
fn read_only_verb(stage: &Stage<'_>, random: &mut Random, id: &str) -> Result<(), Trouble> {
    let repo = stage.ground.repo();
    let repo = repo.to_string_lossy();
    let args: &[&str] = match random.below(10) {
        0 => &["ls", "--all"],
        1 => &["status"],
        2 => &["status", id],
        3 => &["diff", id],
        4 => &["ps", id],
        5 => &["df"],
        6 => &["clean", id],
        7 => &["cancel", id],
        8 => &["trash", "ls"],
        _ => &["trust", "--repo", &repo],
    };
    stage.verb(args).map(drop)
}
