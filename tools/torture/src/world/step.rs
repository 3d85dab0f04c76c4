//! The steps of a script: verbs of the program, acts of users and agents, and both at once. Plain
//! data that can be printed; it draws and plays nothing.

use super::tokens::Form;

/// A verb of the program, on one of the names of a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verb {
    New {
        base: Option<&'static str>,
        branch: Option<&'static str>,
    },
    Remove {
        force: bool,
        rescue: bool,
        branch: &'static str,
    },
    Restore,
    EmptyTrash {
        only: bool,
        lose: bool,
    },
    DropRescue,
    Gc,
    Clean,
    Sweep,
    Status,
    Diff,
    /// A command of an agent's, through the program.
    Commit,
    List,
}

/// Who is asked for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) data: usize,
    pub(crate) name: usize,
    pub(crate) verb: Verb,
}

/// A lock that somebody left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lock {
    Index,
    Head,
    PackedRefs,
    Branch,
    Config,
    MainIndex,
    Shallow,
    Stash,
}

/// What a user or an agent does. Those on an environment do it in its worktree or to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    Work(Form),
    // To a worktree of ours.
    RemoveTree,
    RemoveFolder,
    RemoveFile,
    RemovePointer,
    RemoveAdmin,
    RemoveByGit,
    MoveByGit,
    Rename,
    RenameBack,
    Unreadable,
    FolderToLink,
    CheckoutDetach,
    SwitchMain,
    ResetHard,
    CleanFiles,
    DamageIndex,
    /// Cut off in its middle.
    CutIndex,
    DamageHead,
    LockWorktree,
    UnlockWorktree,
    RenameBranch,
    DeleteBranch,
    MoveBranch,
    SubmoduleUpdate,
    SubmoduleDeinit,
    AbortOperation,
    StashDrop,
    // In the repository.
    Prune,
    Repair,
    Gc,
    GcHard,
    Repack,
    PackRefs,
    Fetch,
    CommitInMain,
    StashInMain,
    AddForeign,
    BreakFilter,
    MendFilter,
    /// As a mirror's prune does it.
    DropRescueRefs,
    SetSetting(&'static str, &'static str),
    LeaveLock(Lock),
    RemoveLocks,
    RepositoryAway,
    RepositoryBack,
}

/// An act on an environment of a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UserAction {
    pub(crate) data: usize,
    pub(crate) name: usize,
    pub(crate) act: Act,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Verb(Call),
    Act(UserAction),
    /// The act happens while the verb's daemon waits at its so-many-th call of git.
    During {
        call: Call,
        action: UserAction,
        at: u64,
        after: bool,
    },
    /// The so-many-th git of the verb's daemon is killed.
    Killed {
        call: Call,
        at: u64,
    },
    /// Two verbs at once, of two data directories where there are two.
    Both(Call, Call),
    Restart(usize),
    SaveLog(usize),
    PutLogBack(usize),
    MoveData(usize),
    CopyData,
}

/// Names in a data directory.
pub(crate) const NAMES: usize = 3;
