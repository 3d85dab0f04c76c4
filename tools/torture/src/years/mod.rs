//! Years of use in one place: each week hundreds of lives a day are written into the log, the clock
//! goes on by seven days, clients and agents work with real git, and the daemon is killed. Then all
//! that is checked after any other life is checked, and what the daemon costs is noted.
//!
//! What ages goes meanwhile: trash after a week, the log after 90 days, rescues after 180. The time
//! is that of the log, which no daemon lets go back: the lives that are written carry it on.

mod curve;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use groundskeeper::core::EnvironmentId;
use groundskeeper::journal::testing::lives;

use crate::args::Arguments;
use crate::check::{Finding, log};
use crate::client::NAMES;
use crate::fault::Fault;
use crate::ground::Ground;
use crate::job;
use crate::life::{self, Lived, Past, Plan};
use crate::model::Model;
use crate::programs;
use crate::random::Random;
use crate::run;
use crate::trouble::Trouble;
use curve::Curve;

const WEEKS_A_YEAR: u64 = 52;
const WEEK: Duration = Duration::from_secs(7 * 86_400);
/// Lives in a week that are written into the log.
const LIVES: u64 = 3_500;
/// Whole weeks for which a rescue is kept for certain, by the settings of the place.
const RESCUE_WEEKS: usize = 180 / 7;
/// What happens to the daemon of a week, in turn.
const FAULTS: [Fault; 6] =
    [Fault::Instant, Fault::Point, Fault::Recovery, Fault::Stop, Fault::Point, Fault::Clients];
/// Where it is killed in the weeks that end at a point: what only years bring about.
const POINTS: [&str; 3] = ["trim.", "fold.", "pack."];
/// Most findings that are printed.
const SHOWN_MAX: usize = 10;

/// Lives the years; true when every promise was kept.
pub(crate) fn run(arguments: &Arguments, years: u64) -> Result<bool, Trouble> {
    let stop = run::stopped_by_signals()?;
    let place = job::place(arguments.place.as_deref())?;
    let programs = programs::find(arguments, &place)?;
    let seed = arguments.seed.unwrap_or_else(run::made_up);
    let weeks = years.saturating_mul(WEEKS_A_YEAR);
    eprintln!("seed {seed}, {weeks} weeks of {LIVES} lives, in {}", place.display());
    let name = format!("years-{seed}");
    let ground = Ground::new(&programs, &place, &name, false)?;
    let ground = ground.ok_or_else(|| Trouble::new("no place"))?;
    ground.ages()?;
    let model = Model::new(&NAMES);
    let mut years = Years { random: Random::new(seed), curve: Curve::default(), rounds: 0 };
    let seconds = arguments.seconds.or_else(|| arguments.minutes.map(|m| m.saturating_mul(60)));
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let is_over = || stop.load(Ordering::Relaxed) || end.is_some_and(|end| Instant::now() >= end);
    let findings = years.live(&ground, &model, weeks, &is_over);
    programs::forget(&place);
    let findings = findings.inspect_err(|_| ground.keep())?;
    if !findings.is_empty() || arguments.keep {
        ground.keep();
    }
    if arguments.json {
        println!("{}", years.curve.json(seed, &findings));
        return Ok(findings.is_empty());
    }
    print!("{}", years.curve.table());
    for finding in findings.iter().take(SHOWN_MAX) {
        println!("violation: {}: {}", finding.check, finding.what);
    }
    if !findings.is_empty() {
        println!("{} violations; the place is kept: {}", findings.len(), ground.root().display());
    }
    Ok(findings.is_empty())
}

struct Years {
    random: Random,
    curve: Curve,
    /// Weeks that ended at a point so far.
    rounds: usize,
}

impl Years {
    /// Lives week after week; stops after the first one in which something is found.
    fn live(
        &mut self,
        ground: &Ground,
        model: &Model,
        weeks: u64,
        is_over: &dyn Fn() -> bool,
    ) -> Result<Vec<Finding>, Trouble> {
        let mut past = job::begin(ground, model)?;
        let mut made = VecDeque::new();
        for week in 1..=weeks {
            if is_over() {
                eprintln!("ended after {} of {weeks} weeks", week - 1);
                break;
            }
            let last = passes(ground, week)?;
            past.log = log::History::since(last);
            // What lay in the trash alone has gone by age, and so may the oldest rescues have.
            model.trash_emptied();
            made.push_back(model.pieces());
            if made.len() > RESCUE_WEEKS {
                model.aged(made.pop_front().unwrap_or(0));
            }
            let mut lived = self.week(&mut past, week)?;
            let point = self.curve.measure(ground, week, &mut lived)?;
            eprintln!("{point}");
            if !lived.findings.is_empty() {
                return Ok(lived.findings);
            }
        }
        Ok(self.curve.growth())
    }

    fn week(&mut self, past: &mut Past<'_>, number: u64) -> Result<Lived, Trouble> {
        let turn = usize::try_from(number).unwrap_or(0) % FAULTS.len();
        let fault = FAULTS[turn];
        let points = points();
        let point = (fault == Fault::Point && !points.is_empty()).then(|| {
            self.rounds += 1;
            (points[self.rounds % points.len()], 1)
        });
        let plan = Plan { fault, point, number };
        life::live(past, &plan, &mut self.random.part(number))
    }
}

fn points() -> Vec<&'static str> {
    let all = groundskeeper::failpoint::kill::POINTS.iter().copied();
    all.filter(|point| POINTS.iter().any(|family| point.starts_with(family))).collect()
}

/// A week passes in the log of a daemon that does not run. Returns the last record.
fn passes(ground: &Ground, week: u64) -> Result<u64, Trouble> {
    let id = |n: u64| EnvironmentId::parse(&format!("life-{}", week * LIVES + n));
    let ids = (0..LIVES).map(id).collect::<Result<Vec<_>, _>>();
    let ids = ids.map_err(|e| Trouble::new("a name for a life").because(&e))?;
    let appended = lives::append(&ground.log(), &ids, groundskeeper::clock::now(), WEEK);
    let appended = appended.map_err(|e| Trouble::new("cannot write lives").because(&e));
    appended.map(|seq| seq.0)
}

/// Entries below a folder that are no folders.
fn files(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let of = |entry: std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => files(&entry.path()),
        _ => 1,
    };
    entries.map(of).sum()
}
