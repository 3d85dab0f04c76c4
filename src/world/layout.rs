//! Where things are inside the data directory. Pure path arithmetic; it makes nothing.
//!
//! ```text
//! <data>/log.redb                 the log
//! <data>/ballast                  space set aside for when the disk is full
//! <data>/daemon.lock              held by the daemon that owns the directory
//! <data>/daemon.json              who that is and where it listens
//! <data>/daemon.log               what a daemon started by the command line has to say
//! <data>/daemon.sock              the door (or in the runtime directory, when the path is long)
//! <data>/locks/<id>               held while an effect runs, inherited by its children
//! <data>/transcripts/<id>.<n>     bounded output of the setup hook of incarnation n
//! <data>/worktrees/<id>/<repo>    the managed root
//! <data>/trash/<id>.<n>/<repo>    what was removed
//! ```

use std::path::{Path, PathBuf};

use crate::core::EnvironmentId;

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

    /// The trash, on the same file system as the managed root.
    #[must_use]
    pub fn trash(&self) -> PathBuf {
        self.root.join("trash")
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

    /// The folder of one environment inside the managed root.
    #[must_use]
    pub fn place_of(&self, id: &EnvironmentId) -> PathBuf {
        self.worktrees().join(id.as_str())
    }

    /// Where the folder of one incarnation goes when it is removed.
    #[must_use]
    pub fn trash_of(&self, id: &EnvironmentId, incarnation: u32) -> PathBuf {
        self.trash().join(format!("{id}.{incarnation}"))
    }

    /// Where the folder of a rolled-back incarnation goes before it is deleted. Ids cannot start
    /// with a dot, so it is never mistaken for something that can be restored.
    #[must_use]
    pub fn rollback_of(&self, id: &EnvironmentId, incarnation: u32) -> PathBuf {
        self.trash().join(format!(".rollback-{id}.{incarnation}"))
    }
}
