//! A year of use: 500 lives a day. Most are written into the log as a daemon writes them, a share
//! is made and removed by a real one with real git. What a daemon costs at the end of the year,
//! against one at the end of its first week, in turns in the same run.
//!
//! The time is that of the log, which a daemon never lets go back: each week ends seven days after
//! the one before it, so that the trash, the log and the memory lose what their limits say.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use groundskeeper::core::event::Record;
use groundskeeper::core::{EnvironmentId, State, Time};
use groundskeeper::journal::{Journal, Options};

use crate::daemon::{Connection, Daemon, resident};
use crate::logs;
use crate::table::{Table, median, ratio, show};
use crate::watching::{new, repository};

const LIVES_A_WEEK: u64 = 3_500;
const WEEK: Duration = Duration::from_secs(7 * 86_400);
/// Lives with real git in a week; every second one leaves a rescue.
const REAL_A_WEEK: u64 = 40;
/// Files in the repository.
const FILES: usize = 60;
/// Weeks after which a line of the curves is printed; and after each further quarter of a year.
const SHOWN: [u64; 4] = [1, 2, 4, 8];
const QUARTER: u64 = 13;
/// Rounds of the comparison of both.
const ROUNDS: u64 = 15;
/// How long nothing may be recorded until a daemon counts as done.
const QUIET: Duration = Duration::from_secs(1);

/// A data directory and its repository.
struct Place {
    data: PathBuf,
    repo: PathBuf,
    lives: u64,
    real: u64,
}

/// What a daemon costs.
#[derive(Default)]
struct Costs {
    start: Vec<Duration>,
    ls: Vec<Duration>,
    new: Vec<Duration>,
    rm: Vec<Duration>,
    memory: Vec<Duration>,
}

pub(crate) fn year(dir: &Path, weeks: u64, table: &mut Table) {
    let mut first = Place::new(&dir.join("first-week"));
    first.week();
    let mut whole = Place::new(&dir.join("year"));
    println!(
        "{:>6} {:>8} {:>11} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "week", "lives", "memory", "files", "log", "start", "ls", "new", "rm"
    );
    for week in 1..=weeks {
        whole.week();
        if SHOWN.contains(&week) || week % QUARTER == 0 {
            let mut costs = Costs::default();
            (0..3).for_each(|_| whole.measure(&mut costs));
            whole.line(week, &mut costs);
        }
    }
    let (mut early, mut late) = (Costs::default(), Costs::default());
    for _ in 0..ROUNDS {
        first.measure(&mut early);
        whole.measure(&mut late);
    }
    for (what, late, early) in [
        ("all weeks / the first: memory", &mut late.memory, &mut early.memory),
        ("all weeks / the first: start to ready", &mut late.start, &mut early.start),
        ("all weeks / the first: ls", &mut late.ls, &mut early.ls),
        ("all weeks / the first: new", &mut late.new, &mut early.new),
        ("all weeks / the first: rm", &mut late.rm, &mut early.rm),
    ] {
        let (late, early) = (median(late), median(early));
        let text = |time| if what.ends_with("memory") { megabytes(time) } else { show(time) };
        table.row(what, &text(late), &text(early), ratio(late, early), 1.1, false);
    }
    let (late, early) = (whole.files(), first.files());
    let what = "all weeks / the first: files";
    let figure = late as f64 / early as f64;
    table.row(what, &late.to_string(), &early.to_string(), figure, 1.1, false);
    let log = whole.log_bytes() as f64 / f64::from(1 << 20);
    // The file grows by doubling, and keeps the pages that trims have freed.
    table.row("log after all weeks, MB", &format!("{log:.0} MB"), "256 MB", log, 512.0, false);
}

impl Place {
    fn new(dir: &Path) -> Self {
        let data = dir.join("data");
        std::fs::create_dir_all(&data).expect("a folder");
        Self { repo: repository(dir, FILES), data, lives: 0, real: 0 }
    }

    /// A week passes.
    fn week(&mut self) {
        let log = self.data.join("log.redb");
        let (mut journal, found) = Journal::open(&log, Options::default()).expect("opened");
        let mut state = found.state;
        let begin = state.at().max(groundskeeper::clock::now());
        for n in 0..LIVES_A_WEEK {
            let share = WEEK.mul_f64((n + 1) as f64 / LIVES_A_WEEK as f64);
            let records = life(&mut state, begin.after(share), self.lives);
            journal.append(&records, &state).expect("appended");
            self.lives += 1;
        }
        journal.checkpoint().expect("checkpointed");
        drop(journal);
        let daemon = Daemon::start(&self.data);
        let mut api = daemon.connect();
        for n in 0..REAL_A_WEEK {
            let id = self.id();
            let path = new(&mut api, &self.repo, &id);
            if n % 2 == 0 {
                std::fs::write(path.join("work"), format!("{id}\n")).expect("written");
            }
            remove(&mut api, &id);
        }
        settle(&mut api);
        daemon.stop();
    }

    fn id(&mut self) -> String {
        self.real += 1;
        format!("real-{}", self.real)
    }

    /// Starts a daemon, uses it, and stops it.
    fn measure(&mut self, costs: &mut Costs) {
        let began = Instant::now();
        let daemon = Daemon::start(&self.data);
        costs.start.push(began.elapsed());
        let mut api = daemon.connect();
        settle(&mut api);
        for _ in 0..5 {
            let began = Instant::now();
            assert_eq!(api.call("GET", "/v1/environments", "").0, 200);
            costs.ls.push(began.elapsed());
        }
        let id = self.id();
        let began = Instant::now();
        new(&mut api, &self.repo, &id);
        costs.new.push(began.elapsed());
        let began = Instant::now();
        remove(&mut api, &id);
        costs.rm.push(began.elapsed());
        settle(&mut api);
        // Bytes as nanoseconds: the median of both is taken in the same way.
        costs.memory.push(Duration::from_nanos(resident(daemon.child.id())));
        daemon.stop();
    }

    fn line(&self, week: u64, costs: &mut Costs) {
        println!(
            "{week:>6} {:>8} {:>11} {:>8} {:>6} MB {:>9} {:>9} {:>9} {:>9}",
            self.lives + self.real,
            megabytes(median(&mut costs.memory)),
            self.files(),
            self.log_bytes() >> 20,
            show(median(&mut costs.start)),
            show(median(&mut costs.ls)),
            show(median(&mut costs.new)),
            show(median(&mut costs.rm)),
        );
    }

    fn log_bytes(&self) -> u64 {
        std::fs::metadata(self.data.join("log.redb")).map_or(0, |found| found.len())
    }

    /// Files of the data directory and of git. Segments of the log are the user's to prune.
    fn files(&self) -> u64 {
        count(&self.data).saturating_sub(count(&self.data.join("log-archive")))
            + count(&self.repo.join(".git"))
    }
}

/// A life of which nothing is left, that ended at a time.
fn life(state: &mut State, at: Time, n: u64) -> Vec<Record> {
    let id = EnvironmentId::parse(&format!("env-{n}")).expect("an id");
    let begins = logs::begins(&id, n);
    let record = |event| {
        let record = Record { seq: state.seq().next(), at, boot: state.boot(), event };
        state.apply(&record);
        record
    };
    begins.into_iter().chain(logs::ends(&id, None)).map(record).collect()
}

fn remove(api: &mut Connection, id: &str) {
    let path = format!("/v1/environments/{id}?force=true&wait=600");
    let (status, removed) = api.call("DELETE", &path, "");
    assert_eq!(status, 200, "{removed:#}");
}

/// Waits until nothing is owed and nothing is recorded any more.
fn settle(api: &mut Connection) {
    let (mut last, mut since) = (0, Instant::now());
    while since.elapsed() < QUIET {
        let (_, daemon) = api.call("GET", "/v1/daemon", "");
        let seq = daemon["seq"].as_u64().expect("a seq");
        if seq != last || daemon["owed"] != 0 {
            (last, since) = (seq, Instant::now());
        }
        std::thread::yield_now();
    }
}

fn megabytes(bytes: Duration) -> String {
    format!("{:.1} MB", bytes.as_nanos() as f64 / f64::from(1 << 20))
}

fn count(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let of = |entry: std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => count(&entry.path()),
        _ => 1,
    };
    entries.map(of).sum()
}
