//! Where things are inside the data directory. Pure path arithmetic; it makes nothing.
//!
//! ```text
//! <data>/log.redb                 the log
//! <data>/ballast                  space set aside for when the disk is full
//! <data>/daemon.lock              held by the daemon that owns the directory
//! <data>/daemon.json              who that is and where it listens
//! <data>/daemon.log               what a daemon started by the command line has to say
//! <data>/daemon.sock              the door (or in the runtime directory, when the path is long)
//! <data>/locks/<id>               held while an effect runs, inherited by its children; also
//!                                 .<id>.<n> for what is left of incarnation n, .cleaned for
//!                                 what cleans took, and .host
//! <data>/transcripts/<id>.<n>     bounded output of the setup hook of incarnation n
//! <data>/transcripts/<id>.<n>.teardown  the same of its teardown hook
//! <data>/scratch/                 temporary files of running effects
//! <data>/worktrees/<id>/<repo>    the managed root
//! <data>/trash/<id>.<n>-<nonce>/<repo>  what was removed
//! <data>/trash/.cleaned-<id>.<seq>/<repo>  what one clean took, with its paths
//! <data>/rescue/<id>.<n>-<nonce>/  files of a rescue that git would not give back as they are
//! <data>/identity                 which log is here, and where "here" was
//! <data>/high-water               the last record that the log is known to have had
//! ```

use std::path::{Path, PathBuf};

use crate::core::{EnvironmentId, Life, Seq};
use crate::world::fs::names;

/// How the names of folders begin that hold what a clean took.
pub(in crate::world) const CLEANED_PREFIX: &str = ".cleaned-";

/// The data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// `root` must be an absolute, real path.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The data directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.root.join("log.redb")
    }

    /// Which log is here, and where "here" was.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        self.root.join("identity")
    }

    /// The last record that the log is known to have had.
    #[must_use]
    pub fn high_water(&self) -> PathBuf {
        self.root.join("high-water")
    }

    /// The lock of the daemon that owns the directory.
    #[must_use]
    pub fn daemon_lock(&self) -> PathBuf {
        self.root.join("daemon.lock")
    }

    /// Who the daemon is and where it listens.
    #[must_use]
    pub fn daemon_info(&self) -> PathBuf {
        self.root.join("daemon.json")
    }

    /// What a daemon in the background has to say.
    #[must_use]
    pub fn daemon_log(&self) -> PathBuf {
        self.root.join("daemon.log")
    }

    /// The folder of the locks that children inherit.
    #[must_use]
    pub fn locks(&self) -> PathBuf {
        self.root.join("locks")
    }

    /// The folder of hook transcripts.
    #[must_use]
    pub fn transcripts(&self) -> PathBuf {
        self.root.join("transcripts")
    }

    /// The managed root: every directory that is ever removed is below it.
    #[must_use]
    pub fn worktrees(&self) -> PathBuf {
        self.root.join("worktrees")
    }

    /// Locks of migrations, the recipes that they began with, and old secrets that an undo would
    /// put back.
    #[must_use]
    pub fn migrations(&self) -> PathBuf {
        self.root.join("migrations")
    }

    /// The trash, on the same file system as the managed root.
    #[must_use]
    pub fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    /// Every folder that can hold what was removed: the trash, and the one that is used when that
    /// lies on another file system than the worktrees.
    #[must_use]
    pub fn trashes(&self) -> Vec<PathBuf> {
        vec![self.trash(), self.worktrees().join(".trash")]
    }

    /// The lock of one environment.
    #[must_use]
    pub fn lock_of(&self, id: &EnvironmentId) -> PathBuf {
        self.locks().join(id.as_str())
    }

    /// The transcript of one incarnation's setup hook.
    #[must_use]
    pub fn transcript_of(&self, id: &EnvironmentId, incarnation: u32) -> PathBuf {
        self.transcripts().join(format!("{id}.{incarnation}"))
    }

    /// The transcript of one incarnation's teardown hook.
    #[must_use]
    pub fn teardown_transcript_of(&self, id: &EnvironmentId, incarnation: u32) -> PathBuf {
        self.transcripts().join(format!("{id}.{incarnation}.teardown"))
    }

    /// The lock of what is left of one incarnation. Ids cannot start with a dot.
    #[must_use]
    pub fn lock_of_remains(&self, id: &EnvironmentId, incarnation: u32) -> PathBuf {
        self.locks().join(format!(".{id}.{incarnation}"))
    }

    /// The lock of what cleans took: one is unlinked at a time.
    #[must_use]
    pub fn lock_of_outputs(&self) -> PathBuf {
        self.locks().join(".cleaned")
    }

    /// The lock of a sweep.
    #[must_use]
    pub fn lock_of_host(&self) -> PathBuf {
        self.locks().join(".host")
    }

    /// Where a temporary index is while an incarnation is rescued.
    #[must_use]
    pub fn scratch_index_of(&self, id: &EnvironmentId, incarnation: u32) -> PathBuf {
        self.scratch().join(format!("{id}.{incarnation}.index"))
    }

    /// Temporary files; what is there at the start of a daemon belongs to nobody.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        self.root.join("scratch")
    }

    /// The folder of one environment inside the managed root.
    #[must_use]
    pub fn place_of(&self, id: &EnvironmentId) -> PathBuf {
        self.worktrees().join(id.as_str())
    }

    /// Where the folder of one incarnation goes when it is removed.
    #[must_use]
    pub fn trash_of(&self, life: Life<'_>) -> PathBuf {
        self.trash().join(names::folder(life))
    }

    /// The folder of copies of files that git would not give back as they are.
    #[must_use]
    pub fn rescues(&self) -> PathBuf {
        self.root.join("rescue")
    }

    /// Where those of one incarnation are.
    #[must_use]
    pub fn copies_of(&self, life: Life<'_>) -> PathBuf {
        self.rescues().join(names::folder(life))
    }

    /// Where what one clean took can be: a folder of its own in every trash. Ids cannot start with
    /// a dot, so it is never mistaken for something that can be restored.
    #[must_use]
    pub fn cleaned_of(&self, id: &EnvironmentId, clean: Seq) -> Vec<PathBuf> {
        let name = format!("{CLEANED_PREFIX}{id}.{clean}");
        self.trashes().into_iter().map(|trash| trash.join(&name)).collect()
    }

    /// Where the folder of a rolled-back incarnation goes before it is deleted. Ids cannot start
    /// with a dot, so it is never mistaken for something that can be restored.
    #[must_use]
    pub fn rollback_of(&self, id: &EnvironmentId, incarnation: u32) -> PathBuf {
        self.trash().join(format!(".rollback-{id}.{incarnation}"))
    }
}
