//! Power loss at every write boundary of the log, also during the recovery from a power loss.
//!
//! The check of each crash image: every acknowledged record is there and equal, there is no gap, at
//! most the group in flight is there besides (whole or not at all), the log takes another record,
//! and a second open reads the same. Of a trimmed log, the base is the fold of what is missing.
//! Red controls run the same check on disks that lie. Used by tests and by `tools/torture`; it
//! never touches a file.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::testing::simdisk::{Durable, Image, Random, SimDisk};
use crate::{Journal, Options};
use groundskeeper_core::event::{EnvironmentReady, Record, SetupFinished, SetupReport};
use groundskeeper_core::{EnvironmentId, Event, HostPath, Seq, State, Time};

pub use crate::testing::simdisk::Honesty;

/// One append: the last seq after it, and the disk positions of its begin and its acknowledgement.
struct Group {
    last_seq: u64,
    begun: usize,
    acknowledged: usize,
    /// The last record that is trimmed with it, or was before.
    trimmed: u64,
}

struct Workload {
    durable: Durable,
    positions: usize,
    groups: Vec<Group>,
    records: Vec<Record>,
}

fn record(seq: u64, random: &mut Random) -> Record {
    let environment = EnvironmentId::parse(&format!("env{}", random.below(5))).expect("an id");
    let event: Event = if random.below(2) == 0 {
        EnvironmentReady { environment }.into()
    } else {
        let transcript = HostPath(vec![b'x'; random.below(600)]);
        let report = SetupReport { transcript, ..Default::default() };
        SetupFinished { environment, report, tail: Vec::new() }.into()
    };
    Record { seq: Seq(seq), at: Time(seq * 1_000), boot: 1, event }
}

fn workload(seed: u64, honesty: Honesty) -> Workload {
    let mut random = Random::new(seed);
    let disk = SimDisk::new(Image::default(), honesty, seed);
    let options = Options { snapshot_every: 20 };
    let mut journal = Journal::open_backend(disk.clone(), options).expect("a new log");
    let (mut state, mut records, mut groups) = (State::default(), Vec::new(), Vec::new());
    let created = disk.position();
    groups.push(Group { last_seq: 0, begun: 0, acknowledged: created, trimmed: 0 });
    for n in 0..40 {
        let group: Vec<Record> = (0..=random.below(8))
            .map(|i| record(records.len() as u64 + 1 + i as u64, &mut random))
            .collect();
        let base = (n % 9 == 8).then(|| {
            let (before, head) = (journal.trimmed().0, journal.head().0);
            let last = before + 1 + random.below((head - before) as usize) as u64;
            journal.reader().prepare_trim(Seq(last), None, &state).expect("prepared").base
        });
        for record in &group {
            state.apply(record);
        }
        let begun = disk.position();
        match &base {
            Some(base) => journal.trim(&group, &state, base).expect("trimmed"),
            None => journal.append(&group, &state).expect("appended"),
        }
        let acknowledged = disk.position();
        records.extend(group);
        let (last_seq, trimmed) = (records.len() as u64, journal.trimmed().0);
        groups.push(Group { last_seq, begun, acknowledged, trimmed });
        if random.below(2) == 0 {
            journal.remove_trimmed().expect("removed");
        }
        if n % 7 == 6 {
            journal.checkpoint().expect("checkpointed");
        }
    }
    let positions = disk.position();
    Workload { durable: Durable::new(Image::default(), disk.ops()), positions, groups, records }
}

impl Workload {
    /// Returns the least and the most records that may be there after a crash before operation
    /// `crash`, and whether the file must be openable at all.
    fn bounds(&self, crash: usize) -> (u64, u64, bool) {
        let answered = self.groups.iter().filter(|g| g.acknowledged <= crash);
        let least = answered.map(|g| g.last_seq).max();
        let most = self.groups.iter().filter(|g| g.begun < crash).map(|g| g.last_seq).max();
        (least.unwrap_or(0), most.unwrap_or(0), least.is_some())
    }

    fn check(&self, image: Image, crash: usize, random: &mut Random) -> Result<(), String> {
        let (least, most, must_open) = self.bounds(crash);
        let disk = SimDisk::new(image.clone(), Honesty::Honest, 1);
        let opened = Journal::open_backend(disk.clone(), Options::default());
        let mut journal = match opened {
            Ok(journal) => journal,
            Err(_) if !must_open => return Ok(()),
            Err(e) => return Err(format!("does not open: {e:?}")),
        };
        let read = self.compare(&journal, least, most)?;
        if random.below(3) == 0 {
            // A second power loss while the file is being repaired.
            let again = Durable::new(image, disk.ops());
            let second = again.crash_image(random.below(disk.position() + 1), random);
            let disk = SimDisk::new(second, Honesty::Honest, 1);
            match Journal::open_backend(disk, Options::default()) {
                Ok(journal) => {
                    self.compare(&journal, least, most)?;
                }
                Err(_) if !must_open => {}
                Err(e) => return Err(format!("not after a second crash: {e:?}")),
            }
        }
        let next = record(read + 1, random);
        journal.append(&[next], &State::default()).map_err(|e| format!("not writable: {e:?}"))?;
        Ok(())
    }

    /// Returns the last trimmed record, whose state the base must have.
    fn base_of(&self, journal: &Journal) -> Result<u64, String> {
        let Some(base) = journal.reader().base().map_err(|e| format!("{e:?}"))? else {
            return Ok(0);
        };
        let (trimmed, mut folded) = (base.head().seq, State::default());
        self.records[..trimmed as usize].iter().for_each(|record| folded.apply(record));
        if base.state().as_ref() == Some(&folded) {
            Ok(trimmed)
        } else {
            Err(format!("the base is not the fold of the {trimmed} records before it"))
        }
    }

    fn compare(&self, journal: &Journal, least: u64, most: u64) -> Result<u64, String> {
        let read = journal.reader().read(Seq(0), usize::MAX).map_err(|e| format!("{e:?}"))?;
        let trimmed = self.base_of(journal)?;
        let count = trimmed + read.len() as u64;
        if journal.head() != Seq(count) {
            return Err(format!("head {} but {count} records", journal.head()));
        }
        if count < least || count > most {
            return Err(format!("{count} records, but {least} acknowledged and {most} begun"));
        }
        if !self.groups.iter().any(|g| g.last_seq == count && g.trimmed == trimmed) {
            return Err(format!("{count} records, {trimmed} trimmed: a group is there in part"));
        }
        match read.iter().zip(&self.records[trimmed as usize..]).find(|(a, b)| a != b) {
            Some((a, _)) => Err(format!("record {} is not what was written", a.seq)),
            None => Ok(count),
        }
    }
}

/// Runs `images` crash images on `threads` threads, of histories seeded from `first`. Returns how
/// many of them violated an invariant, and the description of one of those.
///
/// # Panics
/// When a log cannot be made on a disk in memory.
pub fn power_losses(
    images: usize,
    threads: usize,
    first: u64,
    honesty: Honesty,
) -> (usize, Option<String>) {
    let threads = threads.max(1);
    let violations = AtomicUsize::new(0);
    let example = std::sync::Mutex::new(None);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (violations, example) = (&violations, &example);
            scope.spawn(move || {
                let per_workload = 1_000;
                let share = images.div_ceil(threads);
                for batch in 0..share.div_ceil(per_workload) {
                    let seed = first.wrapping_add((thread * 1_000_003 + batch) as u64 + 1);
                    let work = workload(seed, honesty);
                    let mut random = Random::new(seed ^ 0x5eed);
                    for n in 0..per_workload.min(share - batch * per_workload) {
                        let crash = random.below(work.positions + 1);
                        let image = work.durable.crash_image(crash, &mut random);
                        let checked = catch_unwind(AssertUnwindSafe(|| {
                            work.check(image, crash, &mut random)
                        }));
                        if let Err(why) = checked.unwrap_or_else(|_| Err("panicked".into())) {
                            violations.fetch_add(1, Ordering::Relaxed);
                            let text = format!("seed {seed}, image {n}, operation {crash}: {why}");
                            *example.lock().expect("not poisoned") = Some(text);
                        }
                    }
                }
            });
        }
    });
    (violations.into_inner(), example.into_inner().expect("not poisoned"))
}

#[cfg(test)]
mod tests {
    use std::num::NonZero;

    use super::*;

    const IMAGES: usize = 100_000;
    const CONTROL_IMAGES: usize = 4_000;

    fn threads() -> usize {
        std::thread::available_parallelism().map_or(1, NonZero::get)
    }

    #[test]
    fn power_loss_keeps_acknowledged_records() {
        let started = std::time::Instant::now();
        let (violations, example) = power_losses(IMAGES, threads(), 0, Honesty::Honest);
        eprintln!("{IMAGES} crash images in {:.1?}: {violations} violations", started.elapsed());
        assert_eq!(violations, 0, "{}", example.unwrap_or_default());
    }

    /// Negative control: the check must fail on such a disk.
    #[test]
    fn disk_that_ignores_sync_is_detected() {
        for honesty in [Honesty::LiesOneIn(20), Honesty::LiesOneIn(1)] {
            let (violations, _) = power_losses(CONTROL_IMAGES, threads(), 0, honesty);
            assert!(violations > 0, "{honesty:?} was not detected: the check proves nothing");
        }
    }
}
