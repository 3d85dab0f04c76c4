//! What each command demands of its daemon. It decides whether a daemon that shuts down, or whose
//! disk is full, lets the command through; it decides nothing else.
//!
//! The match has no catch-all: a new command does not compile until it says what it demands.

use super::command::Command;

/// What a command demands of its daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// New work that uses space. Refused while the daemon shuts down, and on a full disk.
    Space,
    /// New work that frees space, or needs no more than a few records. Refused while the daemon
    /// shuts down only.
    Work,
    /// The end of work, or a fact about what happened already. Never refused for want of room: a
    /// refusal would change nothing but what the log knows.
    Record,
}

impl Command {
    /// Returns what this command demands.
    #[must_use]
    pub fn demand(&self) -> Demand {
        match self {
            // A checkout, a copied database, or a program that writes what it likes. An adopted
            // worktree is one that its user is about to work in.
            Self::Provision(_)
            | Self::Restore(_)
            | Self::Adopt(_)
            | Self::Launch(_)
            | Self::BeginRun { .. }
            | Self::Migrate { .. } => Demand::Space,
            // Removals make the space that is lacking. What puts something back renames it, and
            // would come too late once the trash is emptied for want of space. A lease keeps an
            // environment from being removed, so a full disk must not take it away.
            Self::Destroy { .. }
            | Self::Clean { .. }
            | Self::UndoClean { .. }
            | Self::EmptyTrash { .. }
            | Self::DiskLow
            | Self::DropRescue { .. }
            | Self::Sweep(_)
            | Self::Label(_)
            | Self::Lease(_)
            | Self::WatchAgain { .. }
            | Self::Reconcile { .. }
            | Self::ConfirmLiveSet { .. }
            | Self::UndoMigration { .. } => Demand::Work,
            Self::Start { .. }
            | Self::Stop { .. }
            | Self::TrimLog(_)
            | Self::Cancel { .. }
            | Self::Exited { .. }
            | Self::WatchGaveUp(_)
            | Self::EndRun { .. }
            | Self::CancelMigration { .. }
            | Self::Release { .. }
            | Self::MoveRepository { .. }
            | Self::Trust(_)
            | Self::Distrust(_)
            | Self::Note { .. }
            | Self::Settle(_)
            | Self::Tick => Demand::Record,
        }
    }
}
