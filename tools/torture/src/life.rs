//! One life of a daemon under one kind of trouble, its end, and everything that must be true after
//! the next daemon has come to rest.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::check::{self, Finding, Findings, canary, disk, log, running, work};
use crate::child::Started;
use crate::client::{self, Stage};
use crate::daemon::Daemon;
use crate::databases::Databases;
use crate::fault::Fault;
use crate::ground::Ground;
use crate::model::Model;
use crate::processes;
use crate::random::Random;
use crate::time;
use crate::tour;
use crate::trouble::Trouble;

/// Clients at a time.
const CLIENTS: u64 = 3;
/// Most time of a life that is to end at a named point.
const POINT_LIMIT: Duration = Duration::from_secs(25);
/// Most time for a follower of the log to notice that its daemon is gone.
const FOLLOWER_LIMIT: Duration = Duration::from_secs(10);

/// Most time that a git which hangs goes on.
const HANG_LIMIT: Duration = Duration::from_secs(25);

/// One history: what there is, and what was seen.
pub(crate) struct Past<'a> {
    pub(crate) ground: &'a Ground,
    pub(crate) model: &'a Model,
    pub(crate) epoch: AtomicU64,
    pub(crate) log: log::History,
    pub(crate) before: canary::Picture,
}

/// What one life came to.
#[derive(Debug, Default, Clone)]
pub(crate) struct Lived {
    pub(crate) kills: u64,
    pub(crate) operations: u64,
    pub(crate) pieces: usize,
    /// The point at which it was to end was reached.
    pub(crate) hit: bool,
    pub(crate) findings: Vec<Finding>,
}

/// How one life is to go.
pub(crate) struct Plan<'a> {
    pub(crate) fault: Fault,
    /// A named point, and at which time it ends there.
    pub(crate) point: Option<(&'a str, u64)>,
    pub(crate) number: u64,
}

/// Lives one life and looks at what is left.
pub(crate) fn live(
    past: &mut Past<'_>,
    plan: &Plan<'_>,
    random: &mut Random,
) -> Result<Lived, Trouble> {
    let mut lived = Lived::default();
    let databases =
        plan.fault.migrates().then(|| Databases::lay_out(past.ground, plan.number)).transpose()?;
    let published = trouble(past, plan, random, databases.as_ref(), &mut lived)?;
    if plan.fault == Fault::Recovery {
        again(past, random, &mut lived)?;
    }
    plan.fault.cure(past.ground)?;
    rest(past, &published, databases.as_ref(), Some(plan.fault), &mut lived)?;
    Ok(lived)
}

/// The life itself; returns what was published in it.
fn trouble(
    past: &Past<'_>,
    plan: &Plan<'_>,
    random: &mut Random,
    databases: Option<&Databases>,
    lived: &mut Lived,
) -> Result<Vec<String>, Trouble> {
    let (ground, fault) = (past.ground, plan.fault);
    let mut env = fault.prepare(ground, random)?;
    if let Some((point, times)) = plan.point {
        env.push(("GROUNDSKEEPER_KILL_AT".into(), format!("{point}:{times}")));
    }
    let mut daemon = Daemon::start(ground, &env)?;
    if !daemon.ready && !fault.may_end_it() {
        lived.findings.push(Finding { check: "start", what: "it did not start".into() });
    }
    let since = past.log.last().to_string();
    let follower = Started::new(&mut ground.command(&["events", "--follow", "--since", &since]))?;
    let stage = Stage {
        ground,
        model: past.model,
        over: AtomicBool::new(false),
        cut: fault == Fault::Clients,
        operations: AtomicU64::new(0),
        epoch: &past.epoch,
    };
    let seeds: Vec<Random> = (0..CLIENTS).map(|n| random.part(n)).collect();
    let ended = std::thread::scope(|scope| {
        let mut clients = Vec::new();
        for seed in seeds {
            clients.push(scope.spawn(|| client::run(&stage, seed)));
        }
        let work = match databases {
            Some(databases) => Some(scope.spawn(|| databases.migrate(&stage))),
            None if plan.point.is_some() => Some(scope.spawn(|| tour::run(&stage, plan.number))),
            None => None,
        };
        let watched = wait(past, plan, random, &mut daemon, work.is_some(), &|| {
            work.as_ref().is_some_and(std::thread::ScopedJoinHandle::is_finished)
        });
        stage.over.store(true, Ordering::Relaxed);
        lived.hit = plan.point.is_some() && daemon.is_dead();
        let orderly = if fault == Fault::Stop {
            daemon.end()
        } else {
            lived.kills += u64::from(daemon.kill() || lived.hit);
            Ok(())
        };
        for handle in clients.into_iter().chain(work) {
            handle.join().unwrap_or_else(|_| Err(Trouble::new("a client panicked")))?;
        }
        watched?;
        Ok::<_, Trouble>(orderly)
    })?;
    if let Err(what) = ended {
        lived.findings.push(Finding { check: "stop", what });
    }
    lived.operations += stage.operations.load(Ordering::Relaxed);
    followed(follower)
}

/// Returns the whole lines that a follower of the events was sent.
fn followed(mut follower: Started) -> Result<Vec<String>, Trouble> {
    let late = !time::until(FOLLOWER_LIMIT, || follower.is_over());
    let told = follower.end(late)?.out;
    // What was cut off in the middle was not told.
    let whole = told.rfind('\n').map_or("", |end| &told[..end]);
    Ok(whole.lines().map(str::to_owned).collect())
}

/// Lets the life go on until its end is due.
fn wait(
    past: &Past<'_>,
    plan: &Plan<'_>,
    random: &mut Random,
    daemon: &mut Daemon,
    directed: bool,
    done: &dyn Fn() -> bool,
) -> Result<(), Trouble> {
    let limit = match plan.fault {
        fault if fault.has_point() => POINT_LIMIT,
        Fault::Migration => Duration::from_millis(20 + random.below(2_500)),
        Fault::Instant | Fault::Recovery => Duration::from_millis(100 + random.below(1_900)),
        _ => Duration::from_millis(1_500 + random.below(2_000)),
    };
    let end = Instant::now() + limit;
    let mut turn = 0;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let pause = left.min(Duration::from_millis(350));
        let over = time::until(pause, || daemon.is_dead() || directed && done());
        if over || Instant::now() >= end {
            return Ok(());
        }
        if plan.fault.moves_clock() {
            // A week ahead ends what is kept in the trash.
            past.model.trash_emptied();
        }
        plan.fault.strike(past.ground, random, turn)?;
        turn += 1;
    }
}

/// The successor is killed as well while it finishes what was begun.
fn again(past: &Past<'_>, random: &mut Random, lived: &mut Lived) -> Result<(), Trouble> {
    let points = crate::points::of(Fault::Point);
    let point = random.pick(&points).copied().unwrap_or("effect.started");
    let env = [
        ("GROUNDSKEEPER_KILL_AT".to_owned(), point.to_owned()),
        ("GROUNDSKEEPER_KILL_LOG".to_owned(), past.ground.path("points").display().to_string()),
    ];
    let mut daemon = Daemon::start(past.ground, &env)?;
    let limit = Duration::from_millis(random.below(600));
    time::until(limit, || daemon.is_dead());
    daemon.kill();
    lived.kills += 1;
    Ok(())
}

/// A daemon without trouble finishes what was begun; then everything is looked at.
pub(crate) fn rest(
    past: &mut Past<'_>,
    published: &[String],
    databases: Option<&Databases>,
    fault: Option<Fault>,
    lived: &mut Lived,
) -> Result<(), Trouble> {
    let ground = past.ground;
    let all = &mut lived.findings;
    for what in past.model.findings() {
        all.push(Finding { check: "answers", what });
    }
    let daemon = Daemon::start(ground, &[])?;
    if !daemon.ready {
        let what = format!("the next daemon does not start: {}", daemon.printed.trim());
        all.push(Finding { check: "start", what });
        return Ok(());
    }
    check::drain(ground, all);
    if matches!(fault, Some(Fault::GitHangs | Fault::GitHangsLong)) {
        // What only waits ends by itself; nothing is to depend on it.
        let waits = || {
            processes::of(&ground.path("home"))
                .is_ok_and(|all| all.iter().any(|found| found.command.starts_with("sleep ")))
        };
        time::until(HANG_LIMIT, || !waits());
    }
    if let Some(databases) = databases {
        databases.check(ground, &mut Findings { check: "databases", all })?;
        check::drain(ground, all);
    }
    let sweeps = fault.is_some_and(Fault::leaves_for_sweeps);
    if sweeps {
        crate::fault::unlock(&ground.repo().join(".git/refs"), true)?;
    }
    for _ in 0..2 * u32::from(sweeps) {
        ground.gk(&["sweep", "--apply"])?;
        check::drain(ground, all);
    }
    lived.pieces = inspect(past, published, all)?;
    if let Err(what) = daemon.end() {
        all.push(Finding { check: "stop", what });
    }
    past.log.check_file(ground, past.model, &mut Findings { check: "log", all });
    disk::locks(ground, &mut Findings { check: "locks", all });
    printed(ground, &mut Findings { check: "words", all });
    check::replay(ground, all)
}

/// All that can be seen while a daemon is at rest; returns how many pieces of work were found.
pub(crate) fn inspect(
    past: &mut Past<'_>,
    published: &[String],
    all: &mut Vec<Finding>,
) -> Result<usize, Trouble> {
    let ground = past.ground;
    let environments = check::environments(ground)?;
    disk::check(ground, &environments, &mut Findings { check: "disk", all })?;
    running::processes(ground, &environments, true, &mut Findings { check: "processes", all });
    running::tombstones(ground, &environments, &mut Findings { check: "tombstones", all })?;
    canary::check(ground, &past.before, &mut Findings { check: "canary", all });
    let pieces = work::check(ground, past.model, &mut Findings { check: "work", all })?;
    past.log.read(ground, published, &mut Findings { check: "log", all })?;
    Ok(pieces)
}

/// What a daemon says on its way is never that it does not know.
pub(crate) fn printed(ground: &Ground, findings: &mut Findings<'_>) {
    let text = std::fs::read_to_string(ground.path("daemon.err")).unwrap_or_default();
    for line in text.lines() {
        let bad = line.contains("panicked at") || line.to_lowercase().contains("unknown error");
        findings.unless(!bad, || line.to_owned());
    }
}
