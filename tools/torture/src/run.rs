//! Histories after another, several at a time, until time is up or somebody interrupts; then the
//! table of what was survived.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::args::Arguments;
use crate::fault::Fault;
use crate::job::{self, Job, Setting};
use crate::points::{self, Coverage};
use crate::programs;
use crate::report::Report;
use crate::time;
use crate::trouble::Trouble;

/// How often a line is printed.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// The simulated power losses of migrations are always the same: once is enough.
const ONCE: Fault = Fault::PowerMigration;

/// Prints the kinds of faults and the points.
pub(crate) fn list() {
    // A reader such as `head` may have enough before the end.
    drop(std::io::stdout().write_all(listed().as_bytes()));
}

fn listed() -> String {
    let faults = Fault::ALL.iter().map(|(_, name, what)| format!("  {name:<16} {what}\n"));
    let calls = groundskeeper::failpoint::fault::CALLS.iter();
    let calls = calls.map(|(name, what)| format!("  {name:<16} {what}\n"));
    let guards = groundskeeper::failpoint::guard::GUARDS.iter();
    let guards = guards.map(|(name, what)| format!("  {name:<16} without it: {what}\n"));
    let mut text = String::from("faults:\n");
    text.extend(faults);
    text.push_str("calls that can be made to fail or slow:\n");
    text.extend(calls);
    text.push_str("guards that can be taken away:\n");
    text.extend(guards);
    for fault in [Fault::Point, Fault::TrimPoint, Fault::MigrationPoint] {
        let (points, words) = (points::of(fault).join("\n  "), fault.name());
        text.push_str(&format!("points of {words}:\n  {points}\n"));
    }
    text
}

struct Shared {
    setting: Setting,
    faults: Vec<Fault>,
    point: Option<String>,
    seed: u64,
    next: AtomicU64,
    histories: u64,
    report: Mutex<Report>,
    trouble: Mutex<Option<Trouble>>,
}

impl Shared {
    /// Every second history ends at a named point, because there are so many of them; the others
    /// take the kinds in turn. None for one that would say nothing new.
    fn fault_of(&self, number: u64) -> Option<Fault> {
        let points = [Fault::Point, Fault::MigrationPoint];
        let mixed = self.faults.len() > 2 && points.iter().all(|p| self.faults.contains(p));
        if mixed && number % 2 == 1 {
            return points.get(usize::from(number % 6 == 5)).copied();
        }
        let turn = if mixed { number / 2 } else { number };
        let others = self.faults.iter().filter(|fault| !(mixed && points.contains(fault)));
        let others: Vec<Fault> = others.copied().collect();
        let count = others.len() as u64;
        let fault = others.get(usize::try_from(turn % count.max(1)).ok()?).copied()?;
        (fault != ONCE || turn < count).then_some(fault)
    }
}

/// Runs; true when everything was survived.
pub(crate) fn run(arguments: &Arguments) -> Result<bool, Trouble> {
    let began = Instant::now();
    let place = job::place(arguments.place.as_deref())?;
    let shared = prepare(arguments, &place, began)?;
    let jobs = arguments.jobs.unwrap_or_else(cores).max(1);
    eprintln!("seed {}, {jobs} at a time, in {}", shared.seed, place.display());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(|| work(&shared))).collect();
        let mut last = Instant::now();
        loop {
            let all = || workers.iter().all(std::thread::ScopedJoinHandle::is_finished);
            if time::until(LINE_EVERY.saturating_sub(last.elapsed()), all) {
                return;
            }
            if shared.setting.stop.load(Ordering::Relaxed) {
                eprintln!("interrupted: what is under way comes to its end; again ends it at once");
            }
            eprintln!("{}", lock(&shared.report).line(shared.seed, began.elapsed()));
            last = Instant::now();
        }
    });
    programs::forget(&place);
    let (report, coverage) = (lock(&shared.report), lock(&shared.setting.coverage));
    if arguments.json {
        println!("{}", report.json(&coverage, shared.seed, began.elapsed()));
    } else {
        print!("{}", report.table(&coverage, shared.seed, began.elapsed()));
    }
    match lock(&shared.trouble).take() {
        Some(trouble) => Err(trouble),
        None => Ok(report.violations() == 0),
    }
}

/// Returns what the first signal sets. The second one ends the torture, whatever is under way.
pub(crate) fn stopped_by_signals() -> Result<Arc<AtomicBool>, Trouble> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let again =
            signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop));
        let registered = again.and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)));
        registered.map_err(|e| Trouble::new("cannot take signals").because(&e))?;
    }
    Ok(stop)
}

fn prepare(
    arguments: &Arguments,
    place: &std::path::Path,
    began: Instant,
) -> Result<Shared, Trouble> {
    let seconds = arguments.seconds.or_else(|| arguments.minutes.map(|m| m.saturating_mul(60)));
    // A count of histories is a bound by itself.
    let most = if arguments.histories.is_some() { 86_400 } else { 60 };
    let stop = stopped_by_signals()?;
    Ok(Shared {
        faults: faults(arguments)?,
        setting: Setting {
            programs: programs::find(arguments, place)?,
            below: place.to_owned(),
            coverage: Mutex::new(Coverage::default()),
            keep: arguments.keep,
            stop,
            end: began + Duration::from_secs(seconds.unwrap_or(most)),
        },
        point: arguments.point.clone(),
        seed: arguments.seed.unwrap_or_else(made_up),
        next: AtomicU64::new(0),
        histories: arguments.histories.unwrap_or(u64::MAX),
        report: Mutex::new(Report::default()),
        trouble: Mutex::new(None),
    })
}

fn faults(arguments: &Arguments) -> Result<Vec<Fault>, Trouble> {
    let named = arguments.only.iter().map(|name| {
        Fault::parse(name)
            .ok_or_else(|| Trouble::new(format!("{name} is no kind of fault; `--list` names them")))
    });
    let named = named.collect::<Result<Vec<Fault>, Trouble>>()?;
    let known = groundskeeper::failpoint::kill::POINTS;
    if let Some(point) = arguments.point.as_deref().filter(|point| !known.contains(point)) {
        return Err(Trouble::new(format!("{point} is no point; `--list` names them")));
    }
    if !named.is_empty() {
        return Ok(named);
    }
    let all = Fault::ALL.into_iter().map(|(fault, _, _)| fault);
    // Another program may be one that is shipped, which has no points.
    let all = all.filter(|fault| fault.is_usual());
    Ok(all.filter(|fault| arguments.program.is_none() || !fault.needs_points()).collect())
}

fn work(shared: &Shared) {
    while !shared.setting.is_over() && lock(&shared.trouble).is_none() {
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        if number >= shared.histories {
            return;
        }
        let Some(fault) = shared.fault_of(number) else { continue };
        let seed = shared.seed.wrapping_add(number);
        let job = Job { seed, fault, point: shared.point.clone() };
        match job::run(&shared.setting, &job) {
            Ok(done) => lock(&shared.report).add(&job, &done),
            Err(trouble) => *lock(&shared.trouble) = Some(trouble),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

pub(crate) fn made_up() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_secs() % 1_000_000 * 1_000
}
