//! Runs migrations in the calling process, without a daemon: for programs that migrate their own
//! database before they do anything else.
//!
//! The same core decides as in the daemon, and its events are appended to the same kind of log
//! before anything acts on them. So an interrupted migration goes on with the next call, an undo
//! finds what it needs, and `replay` explains what happened. A lock beside the log keeps daemon and
//! process apart. Nothing here decides.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::context::{MigrationRunner, Progress};
pub use crate::ids::{new_id, now_ms};
use crate::place::lock;
pub use crate::place::{Place, is_free};
use crate::recipes::Recipes;
use crate::request::{MigrationRequest, check_same, is_interrupted};
use crate::{access, files};
use groundskeeper_core::event::{Actor, MigrationPlan, Origin};
use groundskeeper_core::{
    Code, Command, Ended, Fault, HostPath, Migration, MigrationId, MigrationPhase, Record,
    Settlement, State, Time,
};
use groundskeeper_journal::{Journal, Options};
use groundskeeper_system::{clock, paths, portable};

/// Longest sleep between two looks at a cancel request, while a failed step waits for its turn.
const CANCEL_POLL: Duration = Duration::from_millis(100);

/// What a caller learns while a migration runs, and how it ends one.
pub struct Control<'a> {
    /// Called when a phase begins and, now and then, while a step makes progress.
    pub update: &'a dyn Fn(Update<'_>),
    /// Returns whether the caller asked for an end. Steps call it between rows and pages.
    pub cancelled: &'a dyn Fn() -> bool,
}

impl Default for Control<'_> {
    fn default() -> Self {
        Self { update: &|_| (), cancelled: &|| false }
    }
}

/// A change in a running migration.
#[derive(Debug, Clone, Copy)]
pub enum Update<'a> {
    /// Its phase, attempts or fault changed.
    Phase(&'a Migration),
    /// The present step made progress.
    Progress(&'a Progress),
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The plan, with real paths.
    pub plan: MigrationPlan,
    /// The migration at its end; `None` when the database was of the newest generation.
    pub migration: Option<Migration>,
}

impl Report {
    /// Returns the report, or the fault of a migration that failed.
    ///
    /// # Errors
    /// The fault; the database is then the old one, unchanged.
    pub fn into_result(self) -> Result<Self, Fault> {
        match &self.migration {
            Some(Migration { phase: MigrationPhase::Failed, fault: Some(fault), .. }) => {
                Err(fault.clone())
            }
            _ => Ok(self),
        }
    }
}

/// Migrates a database, or finishes the interrupted migration of it. Returns at once when it is of
/// the newest generation; then nothing is written.
///
/// # Errors
/// When the request is refused or the log cannot be written. A migration that failed is a report.
pub fn run(
    place: &Place,
    runner: &MigrationRunner,
    request: &MigrationRequest,
    control: &Control<'_>,
) -> Result<Report, Fault> {
    let plan = request.plan(runner.recipes())?;
    if !is_due(&plan, runner.recipes())? {
        return Ok(Report { plan, migration: None });
    }
    let mut standalone = Standalone::open(place)?;
    if let Some(unfinished) = standalone.state.migrating(&plan.database).cloned() {
        if !unfinished.is_undoing() {
            check_same(&plan, &unfinished.plan)?;
        }
        let resumed = standalone.finish(runner, &unfinished.id, control)?;
        if resumed.has_migrated() || !is_due(&plan, runner.recipes())? {
            return Ok(Report { plan, migration: Some(resumed) });
        }
    }
    let id = new_id()?;
    let command = Command::Migrate { migration: id.clone(), plan: plan.clone(), actor: actor() };
    standalone.submit(command)?;
    let done = standalone.finish(runner, &id, control)?;
    let state = &standalone.state;
    runner.remove_unused_recipes(|id| state.wants_recipe(id));
    Ok(Report { plan, migration: Some(done) })
}

/// Puts the old database back, while the new one is as it was installed. With `keep_new` a new one
/// that was written to since is put aside with all that was written.
///
/// # Errors
/// `migration_not_found` when the log at this place knows no migration of the database that can be
/// undone; the fault of the core or of the step that refuses.
pub fn undo(
    place: &Place,
    runner: &MigrationRunner,
    database: &Path,
    keep_new: bool,
    control: &Control<'_>,
) -> Result<Migration, Fault> {
    let path = real(database)?;
    let not_found = || {
        let message = format!("there is no migration of {} to undo", database.display());
        let hint = "run `groundskeeper migrate status` to list migrations";
        Fault::new(Code::MigrationNotFound, message, hint)
    };
    if !place.log.exists() {
        return Err(not_found());
    }
    let mut standalone = Standalone::open(place)?;
    let unfinished = standalone.state.migrating(&path).filter(|m| !m.is_undoing());
    if let Some(id) = unfinished.map(|m| m.id.clone()) {
        // It may have installed the new database and been killed before it was done.
        standalone.finish(runner, &id, control)?;
    }
    let own = standalone.state.migrations().filter(|m| m.plan.database == path);
    let undone = own.filter(|m| m.has_migrated() || m.is_undoing());
    let id = undone.max_by_key(|m| m.seq).map(|m| m.id.clone()).ok_or_else(not_found)?;
    standalone.submit(Command::UndoMigration {
        migration: id.clone(),
        actor: actor(),
        keep_new,
    })?;
    let done = standalone.finish(runner, &id, control)?;
    match (done.phase, &done.fault) {
        (MigrationPhase::Undone, _) | (_, None) => Ok(done),
        (_, Some(fault)) => Err(fault.clone()),
    }
}

/// Returns the migrations in the log at a place, the latest first; with `database` only its own.
/// The log is only read.
///
/// # Errors
/// `already_running` while another process appends to the log; when it cannot be read.
pub fn list(place: &Place, database: Option<&Path>) -> Result<Vec<Migration>, Fault> {
    if !place.log.exists() {
        return Ok(Vec::new());
    }
    access::check_own_log(&place.log)?;
    let only = database.map(real).transpose()?;
    let _lock = lock(&place.lock)?;
    let depth = groundskeeper_journal::inspect::Depth::FromSnapshot;
    let found = groundskeeper_journal::inspect::inspect(&place.log, depth, &mut |_, _| {})
        .map_err(|e| e.to_fault())?;
    let wanted = |m: &&Migration| only.as_ref().is_none_or(|path| m.plan.database == *path);
    let mut all: Vec<Migration> = found.state.migrations().filter(wanted).cloned().collect();
    all.sort_by_key(|m| std::cmp::Reverse(m.created_at));
    Ok(all)
}

/// Returns whether a migration has anything to do. Every start of an application checks this, so it
/// reads no more than it needs.
///
/// # Errors
/// As [`crate::recipe::is_old`].
pub fn is_due(plan: &MigrationPlan, recipes: &Recipes) -> Result<bool, Fault> {
    if is_interrupted(plan, recipes) {
        return Ok(true);
    }
    let recipe = recipes.find(plan)?;
    crate::recipe::is_old(paths::borrowed(&plan.database), &*recipe)
}

/// The state of a log that this process alone appends to.
#[derive(Debug)]
pub struct Standalone {
    state: State,
    journal: Journal,
    /// Time at which the log was opened, by the clock or by its last record, whichever is later.
    opened: (Time, Instant),
    _lock: File,
}

impl Standalone {
    /// Opens the log at a place, and makes an empty one where there is none.
    ///
    /// # Errors
    /// `already_running` when another process appends to it; `journal_failed` when it is damaged.
    pub fn open(place: &Place) -> Result<Self, Fault> {
        for dir in [place.log.parent(), place.lock.parent(), Some(place.home.as_path())] {
            let dir = dir.unwrap_or(Path::new("."));
            portable::create_private_dirs(dir).map_err(paths::failed("create", dir))?;
        }
        access::check_own_log(&place.log)?;
        let lock = lock(&place.lock)?;
        let opened = Journal::open(&place.log, Options::default());
        let (journal, found) = opened.map_err(|e| e.to_fault())?;
        let opened = (clock::now().max(found.state.at()), Instant::now());
        Ok(Self { state: found.state, journal, opened, _lock: lock })
    }

    /// Returns the state with all events so far.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Returns the wall clock, but never a time behind the last record, and never standing still: a
    /// clock that is set back must neither reorder the log nor delay a step.
    fn now(&self) -> Time {
        let (base, since) = self.opened;
        clock::now().max(base.after(since.elapsed())).max(self.state.at())
    }

    /// Decides a command, appends the resulting events and applies them.
    ///
    /// # Errors
    /// The fault with which the core refuses the command; `journal_failed`, after which this value
    /// must not be used any more.
    pub fn submit(&mut self, command: Command) -> Result<(), Fault> {
        let at = self.now();
        let events = self.state.decide(at, command)?;
        let (mut after, mut records) = (self.state.clone(), Vec::new());
        for event in events {
            // A process is no start of the daemon, so it takes the number of the last one.
            let record = Record { seq: after.seq().next(), at, boot: after.boot(), event };
            after.apply(&record);
            records.push(record);
        }
        self.journal.append(&records, &after).map_err(|e| e.to_fault())?;
        self.state = after;
        Ok(())
    }

    /// Performs the owed steps of a migration until none is owed, and returns it.
    ///
    /// # Errors
    /// A refusal of the core, a log that cannot be written, or a defect. A migration that fails is
    /// a result.
    pub fn finish(
        &mut self,
        runner: &MigrationRunner,
        id: &MigrationId,
        control: &Control<'_>,
    ) -> Result<Migration, Fault> {
        let mut may_cancel = true;
        loop {
            let migration = self.state.migration(id).cloned().ok_or_else(|| {
                Fault::new(Code::Defect, "the migration is not in the state", "please report this")
            })?;
            (control.update)(Update::Phase(&migration));
            let Some(owed) = &migration.owed else { return Ok(migration) };
            let cancelled = || may_cancel && (control.cancelled)();
            // Bounded: the core limits the attempts and the delay between two of them.
            while !cancelled() && owed.not_before > self.now() {
                files::pause(owed.not_before.since(self.now()).min(CANCEL_POLL));
            }
            if cancelled() {
                // Asked once. What the core refuses to cancel ends like any other.
                may_cancel = false;
                let asked = self.submit(Command::CancelMigration { migration: id.clone() });
                if let Err(fault) = asked {
                    if fault.code == Code::JournalFailed {
                        return Err(fault);
                    }
                    tracing::warn!(%fault, hint = %fault.hint, "the migration goes on");
                }
                continue;
            }
            let observe = |progress: &Progress| (control.update)(Update::Progress(progress));
            let result = runner.perform_observed(&migration, owed.step, &cancelled, &observe);
            if matches!(&result, Err(fault) if fault.code == Code::Cancelled) && cancelled() {
                continue;
            }
            let ended = Ended { entered: owed.entered, result };
            self.submit(Command::Settle(Settlement::Migration(id.clone(), ended)))?;
        }
    }
}

fn actor() -> Actor {
    Actor { origin: Origin::Daemon, uid: 0, pid: std::process::id() }
}

/// Returns the path of a database as plans have it. The database itself may not exist.
fn real(database: &Path) -> Result<HostPath, Fault> {
    MigrationRequest { database: database.to_owned(), ..MigrationRequest::default() }.database()
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;
    use crate::sample::Harness;

    /// The log of a process that ended is continued by the next one.
    #[test]
    fn log_outlives_process() {
        let harness = Harness::new();
        // An undo cannot put entries of a keychain back.
        harness.without_keychain();
        let place = Place::within(&harness.dir.join("kept"));
        let runner = harness.runner(crate::files::Files::default());
        let (database, auth) = (harness.database(), Some(harness.auth()));
        let recipe = "sample".to_owned();
        let request = MigrationRequest { database, recipe, auth, ..MigrationRequest::default() };
        let stop = Cell::new(false);
        let phases = RefCell::new(Vec::new());
        let update = |update: Update<'_>| {
            if let Update::Phase(migration) = update {
                phases.borrow_mut().push(migration.phase);
                stop.set(migration.phase == MigrationPhase::Staged);
            }
        };
        let control = Control { update: &update, cancelled: &|| stop.get() };
        let report = run(&place, &runner, &request, &control).expect("a report");
        let fault = report.into_result().expect_err("cancelled");
        assert_eq!(fault.code, Code::Cancelled);
        assert!(phases.borrow().contains(&MigrationPhase::RollingBack), "{phases:?}");

        let report = run(&place, &runner, &request, &Control::default()).expect("a report");
        assert!(report.migration.is_some_and(|m| m.has_migrated()));
        let listed = list(&place, Some(&request.database)).expect("listed");
        let phases: Vec<_> = listed.iter().map(|m| m.phase).collect();
        assert_eq!(phases, [MigrationPhase::Finished, MigrationPhase::Failed]);

        let current = run(&place, &runner, &request, &Control::default()).expect("a report");
        assert_eq!(current.migration, None);
        let undone = undo(&place, &runner, &request.database, false, &Control::default());
        assert_eq!(undone.expect("undone").phase, MigrationPhase::Undone);
        assert!(
            is_due(&request.plan(runner.recipes()).expect("a plan"), runner.recipes())
                .expect("inspected")
        );
    }

    /// A rehearsal must not finish a migration in earnest.
    #[test]
    fn other_options_finish_nothing() {
        let harness = Harness::new();
        let place = Place::within(&harness.dir.join("kept"));
        let runner = harness.runner(crate::files::Files::default());
        let (database, auth) = (harness.database(), Some(harness.auth()));
        let recipe = "sample".to_owned();
        let request = MigrationRequest { database, recipe, auth, ..MigrationRequest::default() };
        let plan = request.plan(runner.recipes()).expect("a plan");
        let mut killed = Standalone::open(&place).expect("free");
        let migration = new_id().expect("random");
        killed
            .submit(Command::Migrate { migration: migration.clone(), plan, actor: actor() })
            .expect("begun");
        drop(killed);
        let rehearsal = MigrationRequest { dry_run: true, ..request.clone() };
        let refused = run(&place, &runner, &rehearsal, &Control::default());
        assert_eq!(refused.expect_err("refused").code, Code::DatabaseInUse);
        let report = run(&place, &runner, &request, &Control::default()).expect("a report");
        assert_eq!(
            report.migration.map(|m| (m.id.clone(), m.has_migrated())),
            Some((migration, true))
        );
    }

    #[test]
    fn second_process_is_kept_out() {
        let dir = tempfile::tempdir().expect("a folder");
        let place = Place::within(dir.path());
        let first = Standalone::open(&place).expect("free");
        let fault = Standalone::open(&place).expect_err("held");
        assert_eq!(fault.code, Code::AlreadyRunning);
        drop(first);
        drop(Standalone::open(&place).expect("free again"));
    }
}
