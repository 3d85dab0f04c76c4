//! The kinds of effects, and the position of the record that is being applied.

use serde::{Deserialize, Serialize};

use crate::id::{Seq, Time};

macro_rules! steps {
    ($($(#[$doc:meta])* $step:ident = $name:literal;)*) => {
        /// The one effect that a subject is owed next.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Step { $($(#[$doc])* $step),* }

        impl Step {
            /// All steps, in the order in which an incarnation meets them.
            pub const ALL: &'static [Self] = &[$(Self::$step),*];

            /// Returns the name that users and the log see.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$step => $name),* }
            }
        }
    };
}

steps! {
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
    /// Measure a directory in the trash, and rescue work that was written late.
    Measure = "measure";
    /// Unlink a directory, or what a clean took, in the trash.
    Purge = "purge";
    /// Remove a rescue's ref.
    DropRescue = "drop_rescue";
    /// Find what no record explains.
    Sweep = "sweep";
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

/// Position and time of the record that is being applied.
#[derive(Clone, Copy)]
pub(crate) struct At {
    pub(crate) seq: Seq,
    pub(crate) time: Time,
}
