//! Paths inside the data directory. Pure path arithmetic; it creates and reads nothing.
//!
//! ```text
//! <data>/log.redb                 the event log
//! <data>/log-archive/             records that were trimmed from the log
//! <data>/ballast                  space reserved for when the disk is full
//! <data>/spare/<n>                empty files, reserved for when the disk has no inodes left
//! <data>/daemon.lock              held by the daemon that owns the directory
//! <data>/daemon.json              identity of that daemon and where it listens
//! <data>/daemon.log               output of a daemon that the command line started
//! <data>/daemon.sock              the socket (in the runtime directory if the path is too long)
//! <data>/locks/<id>               held while an effect runs, inherited by its children, and there
//!                                 only while it is held; also .<id>.<n> for what incarnation n
//!                                 left behind, .cleaned for what cleans removed, and .host
//! <data>/transcripts/<id>.<n>     bounded output of the setup hook of incarnation n; once that
//!                                 has ended, kept as long as the trash
//! <data>/transcripts/<id>.<n>.teardown  the same for its teardown hook
//! <data>/scratch/                 temporary files of running effects
//! <data>/worktrees/<id>/<repo>    the managed root
//! <data>/trash/<id>.<n>-<nonce>/<repo>  a removed worktree
//! <data>/trash/.cleaned-<id>.<seq>/<repo>  what one clean removed, with its paths
//! <data>/rescue/<id>.<n>-<nonce>/  rescued files that git would not return byte for byte
//! <data>/identity                 id of the log, and the place it was written for
//! <data>/high-water               the last record that the log is known to have had
//! ```

use std::path::{Path, PathBuf};

use crate::core::{EnvironmentId, Life, Seq};
use crate::world::fs::names;

/// Prefix of the folders that hold what a clean removed.
pub(in crate::world) const CLEANED_PREFIX: &str = ".cleaned-";

/// Names every file and folder of one data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Creates the layout; `root` must be an absolute, real path (no link on it).
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Returns the data directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the path of the redb file that holds the event log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.root.join("log.redb")
    }

    /// Returns the folder of the records that were trimmed from the log.
    #[must_use]
    pub fn log_archive(&self) -> PathBuf {
        self.root.join("log-archive")
    }

    /// Returns the folders that a daemon makes at its start, and needs for as long as it runs.
    #[must_use]
    pub fn folders(&self) -> [PathBuf; 6] {
        [
            self.locks(),
            self.transcripts(),
            self.worktrees(),
            self.trash(),
            self.scratch(),
            self.rescues(),
        ]
    }

    /// Returns the file that reserves space.
    #[must_use]
    pub fn ballast(&self) -> PathBuf {
        self.root.join("ballast")
    }

    /// Returns the folder of the files that reserve inodes.
    #[must_use]
    pub fn spare(&self) -> PathBuf {
        self.root.join("spare")
    }

    /// Returns the file with the id of the log and the place (device, inode) it was written for.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        self.root.join("identity")
    }

    /// Returns the file with the last record that the log is known to have had.
    #[must_use]
    pub fn high_water(&self) -> PathBuf {
        self.root.join("high-water")
    }

    /// Returns the lock file of the daemon that owns the directory.
    #[must_use]
    pub fn daemon_lock(&self) -> PathBuf {
        self.root.join("daemon.lock")
    }

    /// Returns the file with the identity of the daemon and its listening addresses.
    #[must_use]
    pub fn daemon_info(&self) -> PathBuf {
        self.root.join("daemon.json")
    }

    /// Returns the file that receives the output of a daemon in the background.
    #[must_use]
    pub fn daemon_log(&self) -> PathBuf {
        self.root.join("daemon.log")
    }

    /// Returns the folder of the locks that child processes inherit.
    #[must_use]
    pub fn locks(&self) -> PathBuf {
        self.root.join("locks")
    }

    /// Returns the folder of hook transcripts.
    #[must_use]
    pub fn transcripts(&self) -> PathBuf {
        self.root.join("transcripts")
    }

    /// Returns the managed root. Every directory that is ever removed lies below it.
    #[must_use]
    pub fn worktrees(&self) -> PathBuf {
        self.root.join("worktrees")
    }

    /// Returns the folder with the locks of migrations, the recipes that they began with, and old
    /// secrets that an undo would put back.
    #[must_use]
    pub fn migrations(&self) -> PathBuf {
        self.root.join("migrations")
    }

    /// Returns the trash, on the same file system as the managed root.
    #[must_use]
    pub fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    /// Returns every folder that can hold removed worktrees: the trash, and the fallback that is
    /// used when the trash lies on another file system than the worktrees.
    #[must_use]
    pub fn trashes(&self) -> Vec<PathBuf> {
        vec![self.trash(), self.worktrees().join(".trash")]
    }

    /// Returns the lock file of one environment.
    #[must_use]
    pub fn lock_of(&self, id: &EnvironmentId) -> PathBuf {
        self.locks().join(id.as_str())
    }

    /// Returns the transcript of one incarnation's setup hook.
    #[must_use]
    pub fn transcript_of(&self, id: &EnvironmentId, incarnation: u32) -> PathBuf {
        self.transcripts().join(format!("{id}.{incarnation}"))
    }

    /// Returns the transcript of one incarnation's teardown hook.
    #[must_use]
    pub fn teardown_transcript_of(&self, id: &EnvironmentId, incarnation: u32) -> PathBuf {
        self.transcripts().join(format!("{id}.{incarnation}.teardown"))
    }

    /// Returns the lock of what one incarnation left behind. Ids cannot start with a dot, so it
    /// never collides with the lock of an environment.
    #[must_use]
    pub fn lock_of_archive(&self, id: &EnvironmentId, incarnation: u32) -> PathBuf {
        self.locks().join(format!(".{id}.{incarnation}"))
    }

    /// Returns the lock of everything that cleans removed: one output is unlinked at a time.
    #[must_use]
    pub fn lock_of_outputs(&self) -> PathBuf {
        self.locks().join(".cleaned")
    }

    /// Returns the lock of the refs that hold many rescues: one is changed at a time.
    #[must_use]
    pub fn lock_of_folds(&self) -> PathBuf {
        self.locks().join(".folds")
    }

    /// Returns the lock of the packs that hold rescues: one is made at a time.
    #[must_use]
    pub fn lock_of_packs(&self) -> PathBuf {
        self.locks().join(".packs")
    }

    /// Returns the lock that a sweep of the host holds.
    #[must_use]
    pub fn lock_of_host(&self) -> PathBuf {
        self.locks().join(".host")
    }

    /// Returns the path of the temporary index that a rescue of this incarnation uses.
    #[must_use]
    pub fn scratch_index_of(&self, id: &EnvironmentId, incarnation: u32) -> PathBuf {
        self.scratch().join(format!("{id}.{incarnation}.index"))
    }

    /// Returns the folder of temporary files. Whatever is in it when a daemon starts is unowned.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        self.root.join("scratch")
    }

    /// Returns the folder of one environment inside the managed root.
    #[must_use]
    pub fn place_of(&self, id: &EnvironmentId) -> PathBuf {
        self.worktrees().join(id.as_str())
    }

    /// Returns the trash folder of one incarnation.
    #[must_use]
    pub fn trash_of(&self, life: Life<'_>) -> PathBuf {
        self.trash().join(names::folder(life))
    }

    /// Returns the folder of copies of files that git would not return byte for byte.
    #[must_use]
    pub fn rescues(&self) -> PathBuf {
        self.root.join("rescue")
    }

    /// Returns the folder with those copies of one incarnation.
    #[must_use]
    pub fn copies_of(&self, life: Life<'_>) -> PathBuf {
        self.rescues().join(names::folder(life))
    }

    /// Returns the places of what one clean removed: a folder of its own in every trash. Ids cannot
    /// start with a dot, so it is never mistaken for something that can be restored.
    #[must_use]
    pub fn cleaned_of(&self, id: &EnvironmentId, clean: Seq) -> Vec<PathBuf> {
        let name = format!("{CLEANED_PREFIX}{id}.{clean}");
        self.trashes().into_iter().map(|trash| trash.join(&name)).collect()
    }

    /// Returns the folder to which a rolled-back incarnation moves before it is deleted. Ids cannot
    /// start with a dot, so it is never mistaken for something that can be restored.
    #[must_use]
    pub fn rollback_of(&self, id: &EnvironmentId, incarnation: u32) -> PathBuf {
        self.trash().join(format!(".rollback-{id}.{incarnation}"))
    }
}
