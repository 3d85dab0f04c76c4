//! A staged migration: its phase, its evidence, what is owed to it.

use serde::{Deserialize, Serialize};

use crate::core::event::{MigrationPlan, SourceCopy, SourceState, Staging};
use crate::core::fault::Fault;
use crate::core::id::{HostPath, MigrationId, Seq, Time};
use crate::core::model::environment::Owed;
use crate::core::model::step::Step;

macro_rules! phases {
    ($($(#[$doc:meta])* $phase:ident = $name:literal, $step:expr;)*) => {
        /// Where a migration stands.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum MigrationPhase { $($(#[$doc])* $phase),* }

        impl MigrationPhase {
            /// The name that people and scripts see.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$phase => $name),* }
            }

            /// What is owed in it.
            pub(in crate::core) fn step(self) -> Option<Step> {
                match self { $(Self::$phase => $step),* }
            }
        }
    };
}

phases! {
    /// Asked for.
    Started = "started", Some(Step::InspectSource);
    /// It is an old database.
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
    /// Over: the database is of the new generation.
    Finished = "finished", None;
    /// It failed, or was a rehearsal; what was made is being dropped.
    RollingBack = "rolling_back", Some(Step::DropStaging);
    /// Over: the old database is as it was.
    Failed = "failed", None;
    /// Over: all would work, and nothing was changed.
    Rehearsed = "rehearsed", None;
    /// The old database is being put back.
    Undoing = "undoing", Some(Step::ReturnBackup);
    /// Over: the old database is back.
    Undone = "undone", None;
}

/// One migration of one database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    /// Its name, which its files carry as well.
    pub id: MigrationId,
    /// What was asked for.
    pub plan: MigrationPlan,
    /// Where it stands.
    pub phase: MigrationPhase,
    /// When it was asked for.
    pub created_at: Time,
    /// When its phase last changed.
    pub changed_at: Time,
    /// The last record about it.
    pub seq: Seq,
    /// What was found before anything was copied.
    pub found: SourceState,
    /// What was copied.
    pub copy: Option<SourceCopy>,
    /// Warnings of the replay of older generations.
    pub replayed: Vec<String>,
    /// What was built.
    pub staging: Option<Staging>,
    /// Secrets that were written.
    pub secrets: u64,
    /// Where the old database is, once the new one is installed.
    pub backup: Option<HostPath>,
    /// Size and time of the installed file.
    pub installed: String,
    /// What the world owes it.
    pub owed: Option<Owed>,
    /// Why it failed, or why the last attempt did.
    pub fault: Option<Fault>,
    /// What could not be removed.
    pub leftovers: Vec<String>,
}
