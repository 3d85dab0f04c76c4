//! Simulates a power loss or an error at every single file system call of a migration.
//!
//! The simulated disk keeps what was synced: the content of a file as of its last sync, the entries
//! of a directory as of the directory's. A power loss restores that state. In a second mode, which
//! real file systems also show, the names stay current and only contents are lost. Used by tests
//! and by `tools/torture`; every run works in its own temporary directory.

#![allow(clippy::expect_used, reason = "test code: a failed expectation ends the test")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use rustix::io::Errno;

use super::files::{Call, Files, Probe};
use super::sample::Harness;
use groundskeeper_core::MigrationPhase;

/// Content and names that a power loss does not destroy.
#[derive(Default)]
struct Durable {
    contents: BTreeMap<u64, (Vec<u8>, Option<SystemTime>)>,
    entries: BTreeMap<PathBuf, BTreeMap<OsString, u64>>,
}

impl Durable {
    fn of(root: &Path) -> Self {
        let mut durable = Self::default();
        for dir in ["data", "secrets", "home"].map(|name| root.join(name)) {
            durable.sync_dir(&dir);
            for (name, inode) in durable.entries[&dir].clone() {
                assert!(inode > 0);
                durable.sync(&dir.join(name));
            }
        }
        durable
    }

    fn sync(&mut self, path: &Path) {
        if let (Ok(meta), Ok(bytes)) = (path.metadata(), std::fs::read(path)) {
            self.contents.insert(meta.ino(), (bytes, meta.modified().ok()));
        }
    }

    fn sync_dir(&mut self, dir: &Path) {
        self.entries.insert(dir.to_owned(), names(dir));
    }

    /// Restores the durable state; with `names_kept` the names stay as they are now.
    fn lose_the_rest(&self, root: &Path, names_kept: bool) {
        for dir in ["data", "secrets", "home"].map(|name| root.join(name)) {
            let there = names(&dir);
            let wanted = if names_kept { &there } else { &self.entries[&dir] };
            let wanted = wanted.clone();
            for name in there.keys() {
                std::fs::remove_file(dir.join(name)).expect("removed");
            }
            let mut first: BTreeMap<u64, PathBuf> = BTreeMap::new();
            for (name, inode) in wanted {
                let path = dir.join(name);
                match first.get(&inode) {
                    Some(other) => std::fs::hard_link(other, &path).expect("linked"),
                    None => self.put(&path, inode),
                }
                first.entry(inode).or_insert(path);
            }
        }
    }

    /// Writes a file as it was last synced; a file that was never synced becomes empty.
    fn put(&self, path: &Path, inode: u64) {
        let (bytes, modified) = self.contents.get(&inode).cloned().unwrap_or_default();
        std::fs::write(path, bytes).expect("written");
        if let Some(modified) = modified {
            let file = std::fs::File::options().append(true).open(path).expect("opened");
            file.set_modified(modified).expect("set");
        }
    }
}

/// Returns the inodes of a directory's plain files by name. A `-shm` file holds no data: SQLite
/// rebuilds it from the log.
fn names(dir: &Path) -> BTreeMap<OsString, u64> {
    let Ok(entries) = std::fs::read_dir(dir) else { return BTreeMap::new() };
    let files = entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_file()));
    let data = files.filter(|e| !e.file_name().to_string_lossy().ends_with("-shm"));
    data.filter_map(|e| Some((e.file_name(), e.metadata().ok()?.ino()))).collect()
}

/// Counts calls and makes one of them the last one or a failure.
struct Switch {
    count: Mutex<u32>,
    at: u32,
    mode: FaultMode,
    durable: Mutex<Durable>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "failing calls are for tests alone"))]
enum FaultMode {
    /// The power is lost before the call.
    PowerLoss,
    /// The call fails once.
    Fails(Errno),
    /// The call and every later one fail, except those that create directories.
    KeepsFailing(Errno),
}

impl Switch {
    fn new(root: &Path, at: u32, mode: FaultMode) -> Arc<Self> {
        let durable = Mutex::new(Durable::of(root));
        Arc::new(Self { count: Mutex::new(0), at, mode, durable })
    }

    fn reached(&self) -> bool {
        *self.count.lock().expect("alone") >= self.at
    }
}

impl Probe for Switch {
    fn before(&self, call: Call, _: &Path) -> io::Result<()> {
        let mut count = self.count.lock().expect("alone");
        *count += 1;
        let hit = match self.mode {
            FaultMode::PowerLoss => *count >= self.at,
            FaultMode::Fails(_) => *count == self.at,
            // Only the creation of directories keeps working.
            FaultMode::KeepsFailing(_) => *count >= self.at && call != Call::MakeDir,
        };
        match self.mode {
            FaultMode::PowerLoss if hit => Err(io::Error::other("the power is gone")),
            FaultMode::Fails(errno) | FaultMode::KeepsFailing(errno) if hit => Err(errno.into()),
            _ => Ok(()),
        }
    }

    fn after(&self, call: Call, path: &Path) {
        let mut durable = self.durable.lock().expect("alone");
        match call {
            Call::Sync => durable.sync(path),
            Call::SyncDir => durable.sync_dir(path),
            _ => {}
        }
    }
}

/// Runs one migration up to its `at`th call; `None` when it makes fewer calls.
fn until(at: u32, mode: FaultMode) -> Option<(Harness, Arc<Switch>)> {
    let mut harness = Harness::new();
    let switch = Switch::new(&harness.dir, at, mode);
    let runner = harness.runner(Files::probed(Arc::clone(&switch) as Arc<dyn Probe>));
    let id = harness.request("0123abcd");
    let off = mode == FaultMode::PowerLoss;
    harness.run(&runner, &id, &|| off && switch.reached());
    // The runner lives as long as a daemon; the application must not wait for its end.
    if harness.migration(&id).is_over() {
        harness.assert_unlocked(&format!("call {at}, {mode:?}"));
    }
    drop(runner);
    switch.reached().then_some((harness, switch))
}

fn after_power_loss(names_kept: bool, log_lost: bool) -> u32 {
    for at in 1.. {
        let Some((mut harness, switch)) = until(at, FaultMode::PowerLoss) else { return at - 1 };
        let context = format!("call {at}, names kept: {names_kept}, log lost: {log_lost}");
        switch.durable.lock().expect("alone").lose_the_rest(&harness.dir, names_kept);
        let id = if log_lost {
            harness.lose_log();
            harness.request("89abcdef")
        } else {
            harness.request("0123abcd")
        };
        let runner = harness.runner(Files::default());
        harness.run(&runner, &id, &|| false);
        drop(runner);
        let migration = harness.migration(&id);
        assert_eq!(migration.phase, MigrationPhase::Finished, "{context}: {:?}", migration.fault);
        assert!(harness.is_new(), "{context}: the migration ends");
        harness.check_end(&context);
    }
    0
}

/// Simulates a power loss at every call of a migration: with and without the log, and with names
/// kept or lost. Returns the number of losses that were survived.
///
/// # Errors
/// The message of the first check that failed.
pub fn power_losses() -> Result<u32, String> {
    let mut survived = 0;
    for (names_kept, log_lost) in [(false, false), (true, false), (false, true), (true, true)] {
        let run = std::panic::catch_unwind(|| after_power_loss(names_kept, log_lost));
        survived += run.map_err(|what| panic_message(what.as_ref()))?;
    }
    Ok(survived)
}

/// Returns the message of a panic.
fn panic_message(what: &(dyn std::any::Any + Send)) -> String {
    let text = what.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| what.downcast_ref::<&str>().copied()).unwrap_or("a check failed").to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::super::sample::{helps_user, listing};
    use super::*;
    use groundskeeper_core::Command;
    use groundskeeper_core::event::Actor;

    #[test]
    fn power_loss_anywhere_is_survived() {
        let calls = after_power_loss(false, false);
        assert!(calls > 40, "only {calls} calls were seen");
        assert_eq!(after_power_loss(true, false), calls);
        println!("{calls} calls, each the last one twice");
    }

    #[test]
    fn power_loss_without_log_is_survived() {
        let calls = after_power_loss(false, true);
        assert!(calls > 40, "only {calls} calls were seen");
        assert_eq!(after_power_loss(true, true), calls);
    }

    #[test]
    fn single_call_failure_ends_cleanly() {
        for errno in [Errno::IO, Errno::NOSPC, Errno::ACCESS] {
            for at in 1.. {
                let Some((harness, _)) = until(at, FaultMode::Fails(errno)) else { break };
                let id = groundskeeper_core::MigrationId::parse("0123abcd").expect("a name");
                let context = format!("call {at} fails with {errno:?}");
                harness.assert_over(&id, &context);
                harness.check_end(&context);
                let fault = harness.migration(&id).fault;
                assert!(fault.as_ref().is_none_or(helps_user), "{context}: {fault:?}");
            }
        }
    }

    /// A complete database is in place; the next migration on a working disk settles the rest.
    #[test]
    fn persistent_call_failures_end_with_leftovers() {
        let mut given_up = BTreeSet::new();
        for errno in [Errno::IO, Errno::NOSPC, Errno::BUSY] {
            for at in 1.. {
                let Some((mut harness, _)) = until(at, FaultMode::KeepsFailing(errno)) else {
                    break;
                };
                let id = groundskeeper_core::MigrationId::parse("0123abcd").expect("a name");
                let context = format!("calls from {at} on fail with {errno:?}");
                // A complete database is in place in spite of the failing disk; the leftovers name
                // what could not be removed.
                harness.assert_over(&id, &context);
                let migration = harness.migration(&id);
                let left = !migration.leftovers.is_empty();
                assert!(left || migration.phase == MigrationPhase::Finished, "{context}");
                given_up.extend(left.then_some(migration.phase));
                // Once the disk works again, the next migration settles the rest.
                let again = harness.request("89abcdef");
                let runner = harness.runner(Files::default());
                harness.run(&runner, &again, &|| false);
                drop(runner);
                let fault = harness.migration(&again).fault;
                assert!(harness.is_new(), "{context}: {fault:?}");
                harness.check_end(&context);
            }
        }
        // Both last steps were given up at times.
        let both = BTreeSet::from([MigrationPhase::Finished, MigrationPhase::Failed]);
        assert_eq!(given_up, both);
    }

    /// The write begins before the undo, which waits for its end, and ends before the undo can
    /// compare anything.
    #[test]
    fn undo_sees_write_that_it_waited_for() {
        let insert = |writer: &rusqlite::Connection, _: &Path| {
            writer.execute_batch("INSERT INTO stamp VALUES (1); COMMIT").expect("committed");
        };
        undone_while(insert, "written to");
        let secret = |writer: &rusqlite::Connection, auth: &Path| {
            std::fs::write(auth, "renewed").expect("written");
            writer.execute_batch("ROLLBACK").expect("rolled back");
        };
        undone_while(secret, "secrets file was changed");
    }

    /// Undoes while the database is held; `change` ends that, and the undo is refused for it.
    fn undone_while(change: impl Fn(&rusqlite::Connection, &Path) + Send + Sync, why: &str) {
        let mut harness = Harness::new();
        harness.without_keychain();
        let runner = harness.runner(Files::default());
        let id = harness.request("0123abcd");
        harness.run(&runner, &id, &|| false);
        let database = harness.database();
        let writer = rusqlite::Connection::open(&database).expect("opened");
        writer.execute_batch("BEGIN IMMEDIATE").expect("held");
        let auth = harness.auth();
        let already = descriptors_of(&database);
        harness.command(Command::UndoMigration {
            migration: id.clone(),
            actor: Actor::default(),
            keep_new: false,
        });
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writes = scope.spawn(|| {
                while descriptors_of(&database) == already && !is_over.load(Ordering::Relaxed) {
                    std::thread::yield_now();
                }
                change(&writer, &auth);
                drop(writer);
            });
            harness.run(&runner, &id, &|| false);
            is_over.store(true, Ordering::Relaxed);
            writes.join().expect("written");
        });
        let migration = harness.migration(&id);
        assert_eq!(migration.phase, MigrationPhase::Finished);
        assert!(migration.fault.as_ref().is_some_and(|f| f.message.contains(why)));
        assert!(harness.is_new());
    }

    /// Returns how often this process has a file open.
    fn descriptors_of(path: &Path) -> usize {
        let open = std::fs::read_dir("/proc/self/fd").expect("this process").flatten();
        open.filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| to == path)).count()
    }

    #[test]
    fn undo_after_write_is_refused() {
        for written in [false, true] {
            let mut harness = Harness::new();
            harness.without_keychain();
            let runner = harness.runner(Files::default());
            let id = harness.request("0123abcd");
            harness.run(&runner, &id, &|| false);
            let done = harness.migration(&id);
            assert!(done.has_migrated(), "{:?}", done.fault);
            if written {
                let database = rusqlite::Connection::open(harness.database()).expect("opened");
                database.execute_batch("INSERT INTO stamp VALUES (1)").expect("written");
            }
            harness.command(Command::UndoMigration {
                migration: id.clone(),
                actor: Actor::default(),
                keep_new: false,
            });
            harness.run(&runner, &id, &|| false);
            let migration = harness.migration(&id);
            if written {
                assert_eq!(migration.phase, MigrationPhase::Finished);
                assert!(migration.fault.as_ref().is_some_and(|f| f.message.contains("written to")));
                assert!(harness.is_new());
            } else {
                assert_eq!(migration.phase, MigrationPhase::Undone, "{:?}", migration.fault);
                assert!(!harness.is_new(), "the old one is back");
                let secret = std::fs::read_to_string(harness.auth()).expect("secrets");
                assert_eq!(secret, "secret", "and its secrets");
                let there = listing(&harness.dir.join("data"));
                assert!(there.iter().any(|name| name.contains(".undone-")), "{there:?}");
            }
        }
    }
}
