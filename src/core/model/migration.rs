//! A staged migration: its phase, its evidence, the step it owes.

use serde::Serialize;

use crate::event::{MigrationPlan, SourceCopy, SourceState, Staging};
use crate::fault::Fault;
use crate::id::{HostPath, MigrationId, Seq, Time};
use crate::model::step::{MigrationStep as Step, Owed};

macro_rules! phases {
    ($($(#[$doc:meta])* $phase:ident = $name:literal, $step:expr;)*) => {
        /// Phase of a migration.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        pub enum MigrationPhase { $($(#[$doc])* $phase),* }

        impl MigrationPhase {
            /// Returns the name that users and scripts see.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$phase => $name),* }
            }

            /// Returns the step that is owed in this phase; none in a terminal one.
            pub(crate) fn step(self) -> Option<Step> {
                match self { $(Self::$phase => $step),* }
            }
        }
    };
}

phases! {
    /// It was requested.
    Started = "started", Some(Step::InspectSource);
    /// The source is known to be a database of an old generation.
    Inspected = "inspected", Some(Step::CopySource);
    /// A private copy is on disk.
    Copied = "copied", Some(Step::NormaliseSource);
    /// The copy has the shape that the recipe reads.
    Normalised = "normalised", Some(Step::BuildStaging);
    /// The new database is built, and waits for its secrets.
    Staged = "staged", Some(Step::WriteSecrets);
    /// The secrets are written.
    SecretsWritten = "secrets_written", Some(Step::VerifyStaging);
    /// The new database is verified and may be installed.
    FlipBegun = "flip_begun", Some(Step::Flip);
    /// The new database is installed.
    Flipped = "flipped", Some(Step::CleanUp);
    /// Terminal: the database is of the new generation.
    Finished = "finished", None;
    /// It failed, or was a rehearsal; its files are being removed.
    RollingBack = "rolling_back", Some(Step::DropStaging);
    /// Terminal: the old database is unchanged.
    Failed = "failed", None;
    /// Terminal: every step of the rehearsal succeeded, and nothing was changed.
    Rehearsed = "rehearsed", None;
    /// The old database is being put back.
    Undoing = "undoing", Some(Step::ReturnBackup);
    /// Terminal: the old database is back in place.
    Undone = "undone", None;
    /// The old database is being put back although the new one may have been written to. It is the
    /// last one here: the stored form of a state counts the phases in this order.
    UndoingKeepNew = "undoing", Some(Step::ReturnBackup);
}

/// One migration of one database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Migration {
    /// Its id, which its files carry as well.
    pub id: MigrationId,
    /// The plan of the request.
    pub plan: MigrationPlan,
    /// Its current phase.
    pub phase: MigrationPhase,
    /// When it was requested.
    pub created_at: Time,
    /// When its phase last changed.
    pub changed_at: Time,
    /// The last record about it.
    pub seq: Seq,
    /// State of the source before anything was copied.
    pub found: SourceState,
    /// The private copy of the source.
    pub copy: Option<SourceCopy>,
    /// Warnings from bringing older generations to the shape that the recipe reads.
    pub replayed: Vec<String>,
    /// The new database, once it is built.
    pub staging: Option<Staging>,
    /// Number of secrets that were written.
    pub secrets: u64,
    /// Path of the old database, once the new one is installed.
    pub backup: Option<HostPath>,
    /// Size and time of the verified file, to notice later changes.
    pub installed: String,
    /// The step that is owed to it.
    pub owed: Option<Owed<Step>>,
    /// Why it failed, or why the last attempt did.
    pub fault: Option<Fault>,
    /// Files that could not be removed.
    pub leftovers: Vec<String>,
}
