//! The steps that subjects are owed, one type a subject, and a step that is owed with its retries.

use std::fmt;

use serde::Serialize;

use crate::id::{EffectId, Seq, Subject, Time};

/// Declares the steps of one subject, which are stored as a [`Step`].
macro_rules! steps_of {
    ($(#[$of_doc:meta])* $of:ident { $($(#[$doc:meta])* $step:ident),* }) => {
        $(#[$of_doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        #[serde(into = "Step")]
        pub enum $of { $($(#[$doc])* $step),* }

        impl $of {
            /// Returns the name that users and the log see.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                Step::from(self).as_str()
            }
        }

        impl From<$of> for Step {
            fn from(step: $of) -> Self {
                match step { $($of::$step => Self::$step),* }
            }
        }

        impl TryFrom<Step> for $of {
            type Error = OtherSubject;

            fn try_from(step: Step) -> Result<Self, OtherSubject> {
                match step { $(Step::$step => Ok(Self::$step),)* other => Err(OtherSubject(other)) }
            }
        }
    };
}

/// Declares [`Step`], and with it the steps of each subject.
macro_rules! steps {
    ($($(#[$of_doc:meta])* $of:ident {
        $($(#[$doc:meta])* $step:ident = $name:literal;)*
    })*) => {
        /// A step of any subject, as it is printed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        pub enum Step { $($($(#[$doc])* $step,)*)* }

        impl Step {
            /// All steps, in the order in which an incarnation meets them.
            pub const ALL: &'static [Self] = &[$($(Self::$step),*),*];

            /// Returns the name that users and the log see.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $($(Self::$step => $name,)*)* }
            }
        }

        $(steps_of! { $(#[$of_doc])* $of { $($(#[$doc])* $step),* } })*
    };
}

steps! {
    /// A step that an environment is owed.
    EnvironmentStep {
        /// Find the base commit and check that the branch is free.
        ResolveBase = "resolve_base";
        /// Make branch, registration and working tree.
        AddWorktree = "add_worktree";
        /// Put the rescued working tree and index into the new worktree.
        ApplyRescue = "apply_rescue";
        /// Bring directory, registration and branch back from the trash.
        Restore = "restore";
        /// Copy the git-ignored files that the repository names.
        CopyIncluded = "copy_included";
        /// Run the repository's setup hook.
        RunSetup = "run_setup";
        /// Remove everything this provision made, or put back what a restore took.
        RollBack = "roll_back";
        /// Refresh the index, so that later status calls are cheap.
        RefreshIndex = "refresh_index";
        /// Move rebuildable output to the trash.
        Clean = "clean";
        /// Put back what a clean took.
        UndoClean = "undo_clean";
        /// Find work that a teardown would remove.
        Inspect = "inspect";
        /// Run the repository's teardown hook.
        RunTeardown = "run_teardown";
        /// End the processes of the environment.
        EndProcesses = "end_processes";
        /// Put work that no branch holds under a ref.
        Rescue = "rescue";
        /// Rename the directory to the trash.
        MoveToTrash = "move_to_trash";
        /// Remove git's lock and registration of the worktree.
        Unregister = "unregister";
        /// Delete or keep the branch, as its policy requires.
        SettleBranch = "settle_branch";
    }
    /// A step that the archive of an ended incarnation is owed.
    ArchiveStep {
        /// Measure a directory in the trash, and rescue work that was written late.
        Measure = "measure";
        /// Unlink a directory, or what a clean took, in the trash.
        Purge = "purge";
        /// Remove a rescue's ref.
        DropRescue = "drop_rescue";
        /// Move the older rescues of its repository from refs of their own into one.
        FoldRescues = "fold_rescues";
    }
    /// A step that the data directory is owed.
    HostStep {
        /// Find what no record explains.
        Sweep = "sweep";
    }
    /// A step that a migration is owed.
    MigrationStep {
        /// Settle what an interrupted migration left, and recognise the database.
        InspectSource = "inspect_source";
        /// Make a private copy of the old database.
        CopySource = "copy_source";
        /// Bring the copy to the shape that the recipe reads.
        NormaliseSource = "normalise_source";
        /// Build the new database beside the old one.
        BuildStaging = "build_staging";
        /// Write the secrets that the new database refers to.
        WriteSecrets = "write_secrets";
        /// Stamp the new database and prove that it is whole.
        VerifyStaging = "verify_staging";
        /// Install the new database.
        Flip = "flip";
        /// Remove copies and the backups of secrets.
        CleanUp = "clean_up";
        /// Remove everything that was made; the old database stays.
        DropStaging = "drop_staging";
        /// Put the old database back.
        ReturnBackup = "return_backup";
    }
}

steps_of! {
    /// A step that the output of a clean is owed.
    OutputStep {
        /// Unlink what the clean took.
        Purge
    }
}

/// The error of a step that is none of the subject it was stored for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OtherSubject(pub Step);

impl fmt::Display for OtherSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is a step of another subject", self.0.as_str())
    }
}

/// A step that is owed, with its retry state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Owed<S> {
    /// The step to perform.
    pub step: S,
    /// The record that made it owed in this form; half of its [`EffectId`].
    pub entered: Seq,
    /// Earliest time at which it may start; 0 means at once.
    pub not_before: Time,
    /// Failed attempts so far.
    pub attempts: u32,
    /// Daemons that died while it was due.
    pub interruptions: u32,
}

impl<S> Owed<S> {
    /// Creates a step that is owed from a record on.
    pub(crate) fn new(step: S, at: At) -> Self {
        Self { step, entered: at.seq, not_before: Time(0), attempts: 0, interruptions: 0 }
    }

    /// Returns the identity of its effect.
    pub(crate) fn id(&self, subject: Subject) -> EffectId {
        EffectId { subject, entered: self.entered }
    }

    /// Schedules another attempt. Its effect has a new id: from here on a late result of the failed
    /// attempt is stale.
    pub(crate) fn retry(&mut self, at: At, attempts: u32, not_before: Time) {
        self.entered = at.seq;
        self.attempts = attempts;
        self.not_before = not_before;
    }
}

/// Position and time of the record that is being applied.
#[derive(Clone, Copy)]
pub(crate) struct At {
    pub(crate) seq: Seq,
    pub(crate) time: Time,
}
