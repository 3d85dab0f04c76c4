//! Keeps other programs out of a database between two effects, and proves after a restart that none
//! of them changed it meanwhile. It never changes the database.

use std::path::Path;

use crate::context::Task;
use crate::manifest::{self, ReadManifest};
use crate::source::{self, CopyProgress, Source};
use crate::{app_lock, sqlite};
use groundskeeper_core::{Code, Fault};
use groundskeeper_system::paths;

impl Task<'_> {
    /// Takes the application's lock if its file is there and the lock is free. Taking it also
    /// removes what a killed holder left beside it.
    ///
    /// # Errors
    /// `database_in_use`, transient, when another process holds the lock.
    pub(super) fn own_if_free(&self) -> Result<(), Fault> {
        self.runner.with_held(self.id(), |held| {
            if held.owner.is_none() && !self.runner.owns(&self.migration.plan.database) {
                let taken = app_lock::acquire(self.recipe, &self.names.database, true);
                held.owner = taken.map_err(Fault::transient)?;
            }
            Ok(())
        })
    }

    /// Checks that the manifest is still the one that this migration wrote. A program without this
    /// log may have settled it since, and then the files of this migration are no longer intact.
    fn still_ours(&self) -> Result<(), Fault> {
        let found = manifest::read(&self.names.manifest);
        if let ReadManifest::Inaccessible(fault) = found {
            return Err(fault.transient());
        }
        let ours = matches!(&found, ReadManifest::Manifest(manifest) if manifest.nonce == self.id().as_str());
        let fine = match &self.migration.copy {
            _ if self.migration.plan.dry_run => true,
            // Nothing is made yet. An unreadable manifest was inspected and may be overwritten.
            None => !matches!(&found, ReadManifest::Manifest(_)) || ours,
            Some(copy) => {
                let kept = self.names.secrets_backup.as_deref().is_some_and(Path::exists);
                ours && (kept || !copy.has_secrets)
            }
        };
        if fine {
            return Ok(());
        }
        let database = self.names.database.display();
        let message = format!("another process settled the migration of {database}");
        let hint = "migrate again; nothing was lost";
        Err(Fault::new(Code::DatabaseInUse, message, hint))
    }

    /// Like [`Self::hold`], and checks the manifest; for every step after the inspection.
    pub(super) fn hold_and_check(&self) -> Result<(), Fault> {
        self.hold()?;
        self.still_ours()
    }

    /// Keeps other programs out of the database. After a restart it also checks for a change since.
    pub(super) fn hold(&self) -> Result<(), Fault> {
        let rehearsal = self.migration.plan.dry_run;
        self.runner.with_held(self.id(), |held| {
            if held.owner.is_none() && !self.runner.owns(&self.migration.plan.database) {
                held.owner = app_lock::acquire(self.recipe, &self.names.database, rehearsal)?;
            }
            if held.source.is_none() && self.names.database.exists() {
                // The fingerprint is taken first: opening the database may move its log into it.
                let now = sqlite::fingerprint(&self.names.database);
                let source = Source::hold(&self.names.database)?;
                // Held for later steps only when it is compared: those do not compare again.
                self.compare(&source, &now)?;
                held.source = Some(source);
            }
            Ok(())
        })
    }

    /// Checks that the database still has the content that was copied. A different fingerprint is
    /// no proof of a change: a reader or an interrupted flip may have moved the log into the
    /// database. Then the content is copied again and the checksums are compared.
    fn compare(&self, source: &Source, fingerprint: &str) -> Result<(), Fault> {
        let Some(copied) = &self.migration.copy else { return Ok(()) };
        if copied.fingerprint == fingerprint {
            return Ok(());
        }
        let again = self.runner.home.join(format!("{}.again", self.id()));
        let fail = paths::failed("remove", &again);
        self.files().remove_set(&again).map_err(&fail)?;
        sqlite::create_private(&again)?;
        let progress_of_copy = CopyProgress { progress: &|_, _| (), cancelled: self.cancelled };
        let plain = source.shared_file();
        let checksum = source::copy(Some(&plain), &self.names.database, &again, &progress_of_copy)?;
        self.files().remove_set(&again).map_err(&fail)?;
        if checksum == copied.checksum {
            Ok(())
        } else {
            Err(sqlite::changed(&self.names.database))
        }
    }
}
