//! Red controls of the program itself: one guard after another is taken away, and git worlds have
//! to find what it guards against. A guard whose absence nobody sees is not proven by any history.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use groundskeeper::failpoint::guard::GUARDS;

use crate::args::Arguments;
use crate::fault::Fault;
use crate::ground::Programs;
use crate::job::{self, Job, Setting};
use crate::points::Coverage;
use crate::programs;
use crate::trouble::Trouble;

/// Histories within which the absence of a guard has to be seen.
const HISTORIES: u64 = 300;

/// What was seen of a guard's absence: in which history, and what.
struct Seen {
    seed: u64,
    what: String,
}

/// Runs histories without each guard; true when each absence was seen.
pub(crate) fn run(arguments: &Arguments) -> Result<bool, Trouble> {
    let place = job::place(arguments.place.as_deref())?;
    let named = |name: &str| arguments.guard.iter().any(|wanted| wanted == name);
    if let Some(bad) = arguments.guard.iter().find(|g| !GUARDS.iter().any(|(n, _)| n == g)) {
        return Err(Trouble::new(format!("{bad} is no guard; `--list` names them")));
    }
    let most = arguments.histories.unwrap_or(HISTORIES);
    let mut good = true;
    for (guard, what) in GUARDS.iter().filter(|(n, _)| arguments.guard.is_empty() || named(n)) {
        let mut programs = programs::find(arguments, &place)?;
        programs.without = Some(guard);
        let setting = Setting {
            programs,
            below: place.clone(),
            coverage: Mutex::new(Coverage::default()),
            keep: arguments.keep,
            stop: Arc::new(AtomicBool::new(false)),
            end: Instant::now() + Duration::from_secs(86_400),
        };
        let (tried, seen) = without(&setting, arguments.seed.unwrap_or(1), most, arguments.jobs)?;
        good &= seen.is_some();
        match seen {
            Some(Seen { seed, what: found }) => {
                println!(
                    "{guard:<10} red after {tried:>3} (seed {seed}): {what}\n           {found}"
                );
            }
            None => println!("{guard:<10} NOT SEEN in {tried} histories: {what}"),
        }
        programs::forget(&place);
    }
    Ok(good)
}

/// How many histories it took, and what was seen in the end.
fn without(
    setting: &Setting,
    seed: u64,
    most: u64,
    jobs: Option<usize>,
) -> Result<(u64, Option<Seen>), Trouble> {
    let (next, tried) = (AtomicU64::new(0), AtomicU64::new(0));
    let seen: Mutex<Result<Option<Seen>, Trouble>> = Mutex::new(Ok(None));
    let work = || {
        while !setting.is_over() {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= most {
                return;
            }
            let job = Job { seed: seed.wrapping_add(number), fault: Fault::GitWorld, point: None };
            let done = job::run(setting, &job);
            tried.fetch_add(1, Ordering::Relaxed);
            let found = match done {
                Ok(done) => {
                    // What is broken on purpose is of no interest afterwards.
                    if let Some(place) = done.place.filter(|_| !setting.keep) {
                        drop(std::fs::remove_dir_all(place));
                    }
                    let first = done.findings.into_iter().next();
                    let what = first.map(|found| format!("{}: {}", found.check, found.what));
                    Ok(what.map(|what| Seen { seed: job.seed, what }))
                }
                Err(trouble) => Err(trouble),
            };
            // What is red all the same says nothing about the guard.
            let found = match found {
                Ok(Some(seen)) if !is_red_again(setting, &job, &seen) => Ok(None),
                Ok(Some(_)) if is_red_with_it(setting, &job) => Ok(None),
                found => found,
            };
            if !matches!(found, Ok(None)) {
                setting.stop.store(true, Ordering::Relaxed);
                *seen.lock().unwrap_or_else(PoisonError::into_inner) = found;
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..jobs.unwrap_or(cores).max(1) {
            scope.spawn(work);
        }
    });
    let tried = tried.into_inner();
    let seen = seen.into_inner().unwrap_or_else(PoisonError::into_inner)?;
    Ok((tried, seen))
}

/// Whether the same check finds something in the same history once more: one finding may be a
/// machine that stood still.
fn is_red_again(setting: &Setting, job: &Job, seen: &Seen) -> bool {
    let Ok(done) = job::run(setting, job) else { return false };
    if let Some(place) = done.place.filter(|_| !setting.keep) {
        drop(std::fs::remove_dir_all(place));
    }
    done.findings.first().is_some_and(|found| seen.what.starts_with(&format!("{}: ", found.check)))
}

/// Whether the same history is red while the guard stands.
fn is_red_with_it(setting: &Setting, job: &Job) -> bool {
    let programs = Programs { without: None, ..setting.programs.clone() };
    let (below, end) = (setting.below.clone(), setting.end);
    let (coverage, stop) = (Mutex::default(), Arc::new(AtomicBool::new(false)));
    let whole = Setting { programs, below, coverage, keep: true, stop, end };
    let Ok(done) = job::run(&whole, job) else { return true };
    let red = done.findings.into_iter().next();
    if let Some(found) = &red {
        println!("seed {} is red with all guards: {}: {}", job.seed, found.check, found.what);
    } else if let Some(place) = done.place {
        drop(std::fs::remove_dir_all(place));
    }
    red.is_some()
}
