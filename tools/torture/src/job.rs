//! One history from its beginning to its end: several lives of the daemon in one place, all under
//! the same kind of trouble. A seed and a kind are a reproduction, as far as clocks let it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use groundskeeper::journal::testing::power_loss::{Honesty, power_losses};
use groundskeeper::migrate::power;

use crate::check::{Finding, Findings, canary, log, running};
use crate::child;
use crate::client::NAMES;
use crate::daemon::Daemon;
use crate::fault::Fault;
use crate::ground::{ADOPTED, Ground, Programs};
use crate::life::{self, Lived, Past, Plan};
use crate::model::Model;
use crate::points::{self, Coverage};
use crate::random::Random;
use crate::trouble::{Trouble, failed};

/// Lives in one place.
const LIVES: u64 = 3;
/// Simulated power losses of one history.
const IMAGES: usize = 1_500;

/// Most time for the simulated migrations.
const SIMULATION_LIMIT: Duration = Duration::from_secs(600);

const IN_MEMORY: &str = "/dev/shm";

/// What all histories share.
pub(crate) struct Setting {
    pub(crate) programs: Programs,
    pub(crate) below: PathBuf,
    pub(crate) coverage: Mutex<Coverage>,
    /// What was found is left where it is.
    pub(crate) keep: bool,
    /// Somebody interrupts.
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) end: Instant,
}

impl Setting {
    pub(crate) fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || Instant::now() >= self.end
    }
}

/// One history to be.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) seed: u64,
    pub(crate) fault: Fault,
    /// A named point; one that was used least is taken otherwise.
    pub(crate) point: Option<String>,
}

/// What a history came to.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) tried: u64,
    pub(crate) survived: u64,
    pub(crate) kills: u64,
    pub(crate) operations: u64,
    pub(crate) records: u64,
    pub(crate) pieces: u64,
    pub(crate) answers: u64,
    pub(crate) verbs: BTreeMap<String, (u64, u64)>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) place: Option<PathBuf>,
    pub(crate) point: Option<String>,
    /// Why it could not be tried here.
    pub(crate) skipped: Option<&'static str>,
}

impl Done {
    fn skipped(why: &'static str) -> Self {
        Self { skipped: Some(why), ..Self::default() }
    }

    fn add(&mut self, lived: Lived) {
        self.tried += 1;
        self.survived += u64::from(lived.findings.is_empty());
        self.kills += lived.kills;
        self.operations += lived.operations;
        self.pieces = self.pieces.max(lived.pieces as u64);
        self.findings.extend(lived.findings);
    }
}

/// Runs a history; stops at the first life after which something is found, so that it can be seen.
pub(crate) fn run(setting: &Setting, job: &Job) -> Result<Done, Trouble> {
    match job.fault {
        Fault::PowerLog => return Ok(power_of_log(job.seed)),
        Fault::PowerMigration => return power_of_migration(),
        Fault::GitWorld => return crate::world::run(setting, job),
        _ => {}
    }
    let name = format!("{}-{}", job.fault.name(), job.seed);
    let small = job.fault == Fault::DiskFull;
    let Some(ground) = Ground::new(&setting.programs, &setting.below, &name, small)? else {
        return Ok(Done::skipped("not permitted to mount"));
    };
    if job.fault == Fault::ReadOnly && !may_freeze(&ground)? {
        return Ok(Done::skipped("not permitted to mount"));
    }
    let model = Model::new(&NAMES);
    let mut done = Done { point: point_of(setting, job), ..Done::default() };
    let result = lives(setting, job, &ground, &model, &mut done);
    setting.coverage.lock().unwrap_or_else(PoisonError::into_inner).reached(&ground);
    done.verbs = model.verbs();
    if !done.findings.is_empty() || result.is_err() || setting.keep {
        ground.keep();
        done.place = Some(ground.root().to_owned());
    }
    result
        .map(|()| done)
        .map_err(|e| Trouble::new(format!("{name} in {}: {e}", ground.root().display())))
}

fn may_freeze(ground: &Ground) -> Result<bool, Trouble> {
    let place = ground.data().join("worktrees");
    let may = crate::mounts::freeze(&place)?;
    Fault::ReadOnly.cure(ground)?;
    Ok(may)
}

fn point_of(setting: &Setting, job: &Job) -> Option<String> {
    if !job.fault.has_point() {
        return None;
    }
    if job.point.is_some() {
        return job.point.clone();
    }
    let mut coverage = setting.coverage.lock().unwrap_or_else(PoisonError::into_inner);
    let all = points::of(job.fault);
    let least = all.iter().min_by_key(|point| coverage.of(point).1 + coverage.taken(point))?;
    coverage.take(least);
    Some((*least).to_owned())
}

fn lives(
    setting: &Setting,
    job: &Job,
    ground: &Ground,
    model: &Model,
    done: &mut Done,
) -> Result<(), Trouble> {
    let mut past = begin(ground, model)?;
    let random = Random::new(job.seed);
    for number in 0..LIVES {
        if number > 0 && setting.is_over() {
            break;
        }
        let mut part = random.part(number);
        let point = done.point.as_deref().map(|point| (point, number + 1));
        let plan = Plan { fault: job.fault, point, number };
        let lived = life::live(&mut past, &plan, &mut part)?;
        if let Some((point, _)) = point.filter(|_| lived.hit) {
            setting.coverage.lock().unwrap_or_else(PoisonError::into_inner).killed(point);
        }
        let over = !lived.findings.is_empty();
        done.add(lived);
        if over {
            return Ok(());
        }
    }
    let mut end = Lived::default();
    finish(&mut past, &mut end)?;
    done.survived -= u64::from(!end.findings.is_empty());
    done.findings.extend(end.findings);
    done.records = past.log.last();
    done.answers = model.answers().len() as u64;
    Ok(())
}

/// A daemon that nobody disturbs is told what may run, and adopts what is the user's.
pub(crate) fn begin<'a>(ground: &'a Ground, model: &'a Model) -> Result<Past<'a>, Trouble> {
    let before = canary::picture(ground);
    let daemon = Daemon::start_over(ground)?;
    let repo = ground.repo();
    let text = repo.to_string_lossy();
    let teardown = repo.join(".groundskeeper/teardown");
    let hash = groundskeeper::world::effects::hook::hash(&teardown);
    let hash = hash.map_err(|e| Trouble::new("cannot read the hook").because(&e))?;
    let adopted = ground.adopted(ADOPTED[0]);
    let adopted = adopted.to_string_lossy();
    let verbs: [&[&str]; 3] = [
        &["trust", "--repo", &text],
        &["trust", "--repo", &text, "--hash", &hash],
        &["adopt", &adopted, "--id", ADOPTED[0]],
    ];
    for verb in verbs {
        let printed = ground.gk(verb)?;
        if !printed.ok() {
            return Err(Trouble::new(format!(
                "{verb:?}: {}{}",
                printed.out.trim(),
                printed.err.trim()
            )));
        }
    }
    daemon.end().map_err(Trouble::new)?;
    let log = log::History::default();
    Ok(Past { ground, model, epoch: AtomicU64::new(1), log, before })
}

/// Everything can still be removed, and then nothing is left: no directory, no process.
fn finish(past: &mut Past<'_>, lived: &mut Lived) -> Result<(), Trouble> {
    let ground = past.ground;
    let daemon = Daemon::start(ground, &[])?;
    for env in crate::check::environments(ground)? {
        let id = env["id"].as_str().unwrap_or_default();
        if env["phase"] != "tombstoned" && !id.is_empty() {
            let printed = ground.gk(&["rm", id, "--force"])?;
            let mut findings = Findings { check: "removal", all: &mut lived.findings };
            findings.unless(printed.ok(), || format!("rm {id} --force: {}", printed.out.trim()));
        }
    }
    if let Err(what) = daemon.end() {
        lived.findings.push(Finding { check: "stop", what });
    }
    life::rest(past, &[], None, None, lived)?;
    let mut findings = Findings { check: "processes", all: &mut lived.findings };
    running::processes(ground, &[], false, &mut findings);
    Ok(())
}

fn power_of_log(seed: u64) -> Done {
    let (bad, example) = power_losses(IMAGES, 1, seed << 20, Honesty::Honest);
    let what = example.unwrap_or_default();
    let findings = (bad > 0).then_some(Finding { check: "power", what });
    let (tried, bad) = (IMAGES as u64, bad as u64);
    let survived = tried - bad;
    Done { tried, survived, findings: findings.into_iter().collect(), ..Done::default() }
}

/// In a process of its own: the locks that a migration takes must not be inherited by the children
/// that other histories are just starting.
fn power_of_migration() -> Result<Done, Trouble> {
    let this = std::env::current_exe();
    let this = this.map_err(failed("find", Path::new("this program")))?;
    let mut command = Command::new(this);
    // What is durable is simulated: nothing is gained by waiting for a real disk.
    if Path::new(IN_MEMORY).is_dir() {
        command.env("TMPDIR", IN_MEMORY);
    }
    let done = child::run_within(command.arg("--simulate"), SIMULATION_LIMIT)?;
    if let (true, Ok(count)) = (done.ok(), done.out.trim().parse()) {
        return Ok(Done { tried: count, survived: count, ..Done::default() });
    }
    let findings = vec![Finding { check: "power", what: done.err }];
    Ok(Done { tried: 1, findings, ..Done::default() })
}

/// Lets the power go at every call of a migration; prints how often that was survived.
pub(crate) fn simulate() -> Result<bool, Trouble> {
    match power::power_losses() {
        Ok(survived) => println!("{survived}"),
        Err(what) => return Err(Trouble::new(what)),
    }
    Ok(true)
}

/// Where histories take place, made if it is not there.
pub(crate) fn place(wanted: Option<&Path>) -> Result<PathBuf, Trouble> {
    let below = wanted.map_or_else(|| std::env::temp_dir().join("torture"), Path::to_owned);
    crate::ground::make_dir(&below)?;
    below.canonicalize().map_err(failed("find", &below))
}
