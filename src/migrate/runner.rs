//! Performs the effects of migrations: inspect, act, verify, and report the evidence.
//!
//! Each effect may start again after a kill at any instant, in another process, and reaches the
//! same result. Nothing here decides: the core chooses the next step. Between two effects the
//! runner holds the locks that keep other programs out. They end with the process. The next process
//! takes them again and then checks that nothing changed in between.

use std::cell::Cell;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::context::{EffectLock, HeldLocks, MigrationRunner, Progress, Task};
use crate::file_names::Names;
use crate::files::{self, Files};
use crate::recipe::{Keychain, Network, OnConflict, Recipe, Work};
use crate::recipes::Recipes;
use crate::{app_lock, build, copy, copy_source, flip, inspect, recipes, secrets, sqlite, undo};
use groundskeeper_core::event::{ConflictPolicy, MigrationPlan};
use groundskeeper_core::{
    Code, Fault, HostPath, Migration, MigrationId, MigrationOutcome as Outcome,
    MigrationStep as Step,
};
use groundskeeper_failpoint::kill::point;
use groundskeeper_system::sync::lock_unpoisoned;
use groundskeeper_system::{paths, portable};

/// Suffix of the name of a directory that holds a kept recipe.
const RECIPE: &str = ".recipe";

impl MigrationRunner {
    /// Creates a runner that keeps old secrets, recipes and locks below `home`.
    #[must_use]
    pub fn new(
        home: &Path,
        recipes: Recipes,
        network: Box<dyn Network + Send + Sync>,
        keychain: Box<dyn Keychain + Send + Sync>,
    ) -> Self {
        Self {
            home: home.to_owned(),
            recipes,
            files: Files::default(),
            network,
            keychain,
            held: Mutex::default(),
            seen: Mutex::default(),
            owners: Mutex::default(),
        }
    }

    /// Returns the recipes that a migration may name.
    #[must_use]
    pub fn recipes(&self) -> &Recipes {
        &self.recipes
    }

    /// Returns the directory for what an undo needs.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Replaces the access to files, so that a test can make calls fail.
    #[must_use]
    pub fn with_files(mut self, files: Files) -> Self {
        self.files = files;
        self
    }

    /// Returns the progress of the effect that runs now; `None` when there is none to report.
    #[must_use]
    pub fn progress(&self, id: &MigrationId) -> Option<Progress> {
        lock_unpoisoned(&self.seen).get(id).cloned()
    }

    /// Performs one effect. A panic becomes a fault of this effect and affects nothing else.
    ///
    /// # Errors
    /// The fault that the effect ended with. The core decides what it leads to.
    pub fn perform(
        &self,
        migration: &Migration,
        step: Step,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Outcome, Fault> {
        self.perform_observed(migration, step, cancelled, &|_| ())
    }

    /// Performs one effect as [`Self::perform`] does, and passes its progress to `observe` as well.
    ///
    /// # Errors
    /// As [`Self::perform`].
    pub fn perform_observed(
        &self,
        migration: &Migration,
        step: Step,
        cancelled: &dyn Fn() -> bool,
        observe: &dyn Fn(&Progress),
    ) -> Result<Outcome, Fault> {
        let alone = Cell::new(false);
        let work = || {
            let _lock = self.lock(&migration.id)?;
            alone.set(true);
            let recipe = self.recipe(migration, step)?;
            let names = Names::of(migration, &*recipe);
            let task =
                Task { runner: self, migration, recipe: &*recipe, names, cancelled, observe };
            task.perform(step)
        };
        let outcome = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
            let message = format!("step {} panicked: {text}", step.as_str());
            Err(Fault::new(Code::Defect, message, "please report this"))
        });
        // Locks that stayed here would keep the application out of its database.
        if is_over(migration, step, &outcome) {
            self.release(&migration.id);
            if alone.get() {
                self.remove_scratch(&migration.id);
            }
        }
        lock_unpoisoned(&self.seen).remove(&migration.id);
        outcome
    }

    /// Takes the lock of a database's application and holds it until this runner is dropped.
    ///
    /// # Errors
    /// `database_in_use` when another process holds it.
    pub fn own(&self, database: &HostPath, recipe: &dyn Recipe) -> Result<(), Fault> {
        if self.owns(database) {
            return Ok(());
        }
        let owner = app_lock::acquire(recipe, paths::borrowed(database), false)?;
        lock_unpoisoned(&self.owners).extend(owner.map(|owner| (database.clone(), owner)));
        Ok(())
    }

    /// Returns whether this process holds the lock of a database's application.
    pub(super) fn owns(&self, database: &HostPath) -> bool {
        lock_unpoisoned(&self.owners).contains_key(database)
    }

    /// Performs the steps that an installed database still needs at every start. Returns the names
    /// of the steps that were done now. `migration` is the one that installed the database, if it
    /// is known: what these steps write does not stand in the way of an undo.
    ///
    /// # Errors
    /// The fault of the step that failed.
    pub fn make_ready(
        &self,
        plan: &MigrationPlan,
        recipe: &dyn Recipe,
        migration: Option<&Migration>,
    ) -> Result<Vec<String>, Fault> {
        let path = paths::from_host(&plan.database);
        let before = sqlite::fingerprint(&path);
        let database = sqlite::open(&path)?;
        let work = Work {
            tenant: &plan.tenant,
            conflicts: OnConflict::Refuse,
            secrets: None,
            now_ms: i64::try_from(plan.at_ms).unwrap_or(i64::MAX),
            network: &*self.network,
            keychain: &*self.keychain,
            progress: &|_, _| (),
            cancelled: &|| false,
        };
        let done = recipe.ready(&database, &work)?;
        // Closed first: the last connection moves the log into the database.
        database.close().map_err(|(_, e)| sqlite::fault("close", &path, &e))?;
        // Without a step of ours, whatever changed the database was another program.
        let migration = migration.filter(|_| !done.is_empty());
        if let Some(migration) = migration.filter(|m| undo::is_as_installed(self, m, &before)) {
            undo::note_ready(self, migration, &sqlite::fingerprint(&path))?;
        }
        Ok(done)
    }

    /// Returns the directory that keeps a migration's old secrets.
    pub(super) fn folder_of(&self, id: &MigrationId) -> PathBuf {
        self.home.join(id.as_str())
    }

    /// Returns the recipe of a migration. The first step copies a directory of SQL files, so that
    /// later changes to that directory do not affect how the migration ends or is undone.
    fn recipe(&self, migration: &Migration, step: Step) -> Result<Arc<dyn Recipe>, Fault> {
        let kept = self.home.join(format!("{}{RECIPE}", migration.id));
        if let Some(recipe) = recipes::kept(&migration.plan, &kept)? {
            return Ok(recipe);
        }
        let recipe = self.recipes.find(&migration.plan)?;
        if step == Step::InspectSource {
            self.keep(&*recipe, &kept)?;
        }
        Ok(recipe)
    }

    fn keep(&self, recipe: &dyn Recipe, folder: &Path) -> Result<(), Fault> {
        let (all, files) = (recipe.files(), &self.files);
        if all.is_empty() {
            return Ok(());
        }
        // A kill here is harmless: `recipes::kept` ignores a directory with incomplete files.
        files.make_dir(folder).map_err(paths::failed("create", folder))?;
        files.sync_dir_of(folder).map_err(paths::failed("sync", folder))?;
        all.into_iter().try_for_each(|(name, text)| {
            let path = folder.join(name);
            let written = files.write(&path, &files::with_suffix(&path, ".tmp"), text.as_bytes());
            written.map_err(paths::failed("write", &path))
        })
    }

    /// Removes the recipes kept for migrations that need them no more.
    pub fn remove_unused_recipes(&self, is_wanted: impl Fn(&MigrationId) -> bool) {
        // Listed before `is_wanted` is called: a recipe is kept only after its migration is in the
        // log, so every listed directory is known by then.
        let entries = std::fs::read_dir(&self.home).into_iter().flatten().flatten();
        for (path, name) in entries.map(|e| (e.path(), e.file_name())).collect::<Vec<_>>() {
            let id = name.to_str().and_then(|name| name.strip_suffix(RECIPE));
            let id = id.and_then(|id| MigrationId::parse(id).ok());
            if id.is_some_and(|id| !is_wanted(&id)) {
                drop(std::fs::remove_dir_all(path));
            }
        }
    }

    fn lock(&self, id: &MigrationId) -> Result<EffectLock, Fault> {
        lock(&self.files, &self.home, id)
    }

    pub(super) fn with_held<T>(
        &self,
        id: &MigrationId,
        change: impl FnOnce(&mut HeldLocks) -> T,
    ) -> T {
        let mut held = lock_unpoisoned(&self.held);
        change(held.entry(id.clone()).or_default())
    }

    /// Releases the locks that a migration held between its effects.
    fn release(&self, id: &MigrationId) {
        lock_unpoisoned(&self.held).remove(id);
    }

    /// Removes the scratch files of a migration that has ended, and the file of its lock.
    fn remove_scratch(&self, id: &MigrationId) {
        for suffix in files::SUFFIXES {
            drop(std::fs::remove_file(self.home.join(format!("{id}.again{suffix}"))));
        }
        // Safe to remove: a file that was opened before and is locked after that is no lock.
        drop(std::fs::remove_file(lock_file(&self.home, id)));
    }
}

/// Returns whether the migration ends with this outcome of its step: a step that fails ends it when
/// no other step follows and the core owes no further attempt.
fn is_over(migration: &Migration, step: Step, outcome: &Result<Outcome, Fault>) -> bool {
    let is_last = matches!(step, Step::CleanUp | Step::DropStaging | Step::ReturnBackup);
    match outcome {
        Ok(Outcome::SourceInspected(found)) => !found.old,
        Ok(Outcome::CleanedUp(_) | Outcome::StagingDropped(_) | Outcome::Returned(_)) => true,
        Ok(_) => false,
        Err(fault) => is_last && !migration.is_retried(step, fault),
    }
}

/// Takes the lock of a migration across processes: a daemon that is being replaced may still have a
/// thread that works on it. `home` is the directory of its runner.
pub(super) fn lock(files: &Files, home: &Path, id: &MigrationId) -> Result<EffectLock, Fault> {
    files.make_dir(home).map_err(paths::failed("create", home))?;
    let path = lock_file(home, id);
    let open = File::options().create(true).truncate(false).write(true).open(&path);
    let file = open.map_err(paths::failed("open", &path))?;
    // Without waiting: the fault is transient, so the core retries it within its bounds. A lock of
    // a file that its last holder removed keeps no one out.
    if file.try_lock().is_ok() && portable::is_still_at(&file, &path) {
        return Ok(EffectLock(file));
    }
    let message = format!("another process works on migration {id}");
    let hint = format!("run `fuser {}` to find it; retry when it has ended", path.display());
    Err(Fault::new(Code::DatabaseInUse, message, hint).transient())
}

/// Returns the file of the lock of a migration.
pub(super) fn lock_file(home: &Path, id: &MigrationId) -> PathBuf {
    home.join(format!("{id}.lock"))
}

impl Task<'_> {
    fn perform(&self, step: Step) -> Result<Outcome, Fault> {
        let outcome = match step {
            Step::InspectSource => inspect::inspect(self),
            Step::CopySource => copy_source::copy(self),
            Step::NormaliseSource => copy::normalise(self),
            Step::BuildStaging => build::build(self),
            Step::WriteSecrets => secrets::write(self),
            Step::VerifyStaging => build::verify(self),
            Step::Flip => flip::flip(self),
            Step::CleanUp => flip::clean_up(self),
            Step::DropStaging => flip::drop_staging(self),
            Step::ReturnBackup => undo::undo(self),
        };
        point("migrate.performed");
        outcome
    }

    pub(super) fn files(&self) -> &Files {
        &self.runner.files
    }

    pub(super) fn id(&self) -> &MigrationId {
        &self.migration.id
    }

    pub(super) fn progress(&self, what: &str, (done, of): (u64, u64), unit: &'static str) {
        let progress = Progress { what: what.to_owned(), done, of, unit };
        (self.observe)(&progress);
        lock_unpoisoned(&self.runner.seen).insert(self.id().clone(), progress);
    }

    /// Returns the number of rows that the old database has in a table; 0 when there is no such
    /// table or the rows are not counted yet.
    fn rows_of(&self, table: &str) -> u64 {
        let rows = self.migration.copy.iter().flat_map(|copy| &copy.rows);
        rows.filter(|(name, _)| name == table).map(|(_, rows)| *rows).sum()
    }

    /// Calls a closure with what the recipe works with.
    pub(super) fn with_work<T>(&self, call: impl FnOnce(&Work<'_>) -> T) -> T {
        let secrets = self.old_secrets();
        call(&Work {
            tenant: &self.migration.plan.tenant,
            conflicts: match self.migration.plan.on_conflict {
                ConflictPolicy::KeepFirst => OnConflict::KeepFirst,
                ConflictPolicy::Rename => OnConflict::Rename,
                // Of a policy that only a later version knows, this one changes nothing.
                ConflictPolicy::Refuse | ConflictPolicy::Unknown(_) => OnConflict::Refuse,
            },
            secrets: secrets.as_deref(),
            now_ms: i64::try_from(self.migration.plan.at_ms).unwrap_or(i64::MAX),
            network: &*self.runner.network,
            keychain: &*self.runner.keychain,
            progress: &|what, rows| {
                // One row of the old database may become several, and then the total is unknown.
                let of = Some(self.rows_of(what)).filter(|of| *of >= rows).unwrap_or(0);
                self.progress(what, (rows, of), "rows");
            },
            cancelled: self.cancelled,
        })
    }

    /// Returns the file with the secrets of the old generation. A rehearsal makes no backup of it
    /// and reads the file itself, which it never writes.
    fn old_secrets(&self) -> Option<PathBuf> {
        let had = self.migration.copy.as_ref().is_some_and(|copy| copy.has_secrets);
        if self.migration.plan.dry_run {
            return self.names.secrets.clone().filter(|path| path.exists());
        }
        self.names.secrets_backup.clone().filter(|_| had)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Harness;

    /// A child between fork and exec has a duplicate of the descriptor.
    #[test]
    fn inherited_lock_fd_holds_no_lock() {
        let harness = Harness::new();
        let runner = harness.runner(Files::default());
        let id = MigrationId::parse("0123abcd").expect("a name");
        let held = runner.lock(&id).expect("free");
        let of_the_child = held.0.try_clone().expect("a duplicate descriptor");
        assert!(runner.lock(&id).is_err(), "it is held");
        drop(held);
        drop(runner.lock(&id).expect("free again"));
        drop(of_the_child);
    }
}
