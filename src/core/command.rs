//! Commands to the core, from users, from effects that settle, and from the clock.
//!
//! Everything that is not a function of the state arrives in a command: ids, times, commit hashes,
//! byte counts. Commands are not stored; the events they lead to are.

use super::effect::{Note, Settlement};
use super::event::{
    Actor, EnvironmentLabeled, LeaseGranted, LogTrimmed, MigrationPlan, Plan, ProcessStarted,
    RepositoryDistrusted, RepositoryTrusted, Retention, SweepRequested, TeardownOptions,
    WatcherGaveUp, Worktree,
};
use super::id::{EffectId, EnvironmentId, HostPath, LeaseId, MigrationId, Nonce, RequestId, Seq};
use crate::model::live_set::LiveSet;

/// One command to the core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A daemon has opened the log.
    Start {
        /// Process id of the daemon.
        pid: u32,
        /// Version of the program.
        version: String,
        /// Configured limits of the trash.
        retention: Retention,
        /// What the daemon found about its data directory.
        ground: Ground,
    },
    /// The daemon is about to close the log.
    Stop {
        /// Why: `signal`, `request`.
        reason: String,
    },
    /// Make an environment; the same plan for a live one succeeds and changes nothing.
    Provision(Provision),
    /// Stop making an environment, or stop retrying its teardown; nothing to cancel is a success.
    Cancel {
        /// The environment's id.
        environment: EnvironmentId,
        /// The actor of the request.
        actor: Actor,
    },
    /// Tear an environment down; an unknown or tombstoned one is a success.
    Destroy {
        /// The environment's id.
        environment: EnvironmentId,
        /// The incarnation that is meant; another one is not touched. None means the present one.
        incarnation: Option<u32>,
        /// Whether work at risk may go to the trash, and leases may be broken.
        force: bool,
        /// Options of the teardown.
        options: TeardownOptions,
        /// The actor of the request.
        actor: Actor,
        /// Idempotency key, when one was given.
        request: Option<RequestId>,
    },
    /// Restore an ended incarnation as a new one.
    Restore(Restore),
    /// Watch and lease a foreign worktree; the same one again is a success.
    Adopt(Adopt),
    /// Record a process that waits to run a command for an environment.
    Launch(ProcessStarted),
    /// Record that such a command has ended; an unknown one is a success.
    Exited {
        /// The environment's id.
        environment: EnvironmentId,
        /// Process id of the command.
        pid: u32,
    },
    /// Watching an environment failed too often.
    WatchGaveUp(WatcherGaveUp),
    /// A subscriber asks for the changes of an environment whose watching was given up.
    WatchAgain {
        /// The environment's id.
        environment: EnvironmentId,
    },
    /// Move the rebuildable output of an environment to the trash.
    Clean {
        /// The environment's id.
        environment: EnvironmentId,
        /// Whether it is unlinked at once.
        now: bool,
        /// The actor of the request.
        actor: Actor,
    },
    /// Put back what the last clean of an environment took.
    UndoClean {
        /// The environment's id.
        environment: EnvironmentId,
        /// The actor of the request.
        actor: Actor,
    },
    /// Unlink the content of the trash.
    EmptyTrash {
        /// Restricts it to this environment.
        environment: Option<EnvironmentId>,
        /// Whether last copies are unlinked, too; only for an environment that is named.
        lose: bool,
        /// The actor of the request.
        actor: Actor,
    },
    /// The disk is nearly full.
    DiskLow,
    /// A trim of the log is prepared: its segment is on disk, and its base is proven.
    TrimLog(LogTrimmed),
    /// Remove a rescue's ref.
    DropRescue {
        /// The environment's id.
        environment: EnvironmentId,
        /// The ended incarnation.
        incarnation: u32,
        /// The actor of the request.
        actor: Actor,
    },
    /// Find what no record explains.
    Sweep(SweepRequested),
    /// Give an environment a label, or take it away; the same one again is a success.
    Label(EnvironmentLabeled),
    /// Claim that an environment is in use; the same lease again moves its end.
    Lease(LeaseGranted),
    /// Make this host agree with a live set.
    Reconcile {
        /// The live set of the server.
        set: LiveSet,
        /// Options for tearing down what is not listed.
        options: TeardownOptions,
        /// The actor that sends it.
        actor: Actor,
    },
    /// Apply a live set that is held.
    ConfirmLiveSet {
        /// Epoch of the held set.
        epoch: u64,
        /// Options for tearing down what is not listed.
        options: TeardownOptions,
        /// The actor that confirms it.
        actor: Actor,
    },
    /// A command is about to run for a request; it never runs twice.
    BeginRun {
        /// The environment it runs in.
        environment: EnvironmentId,
        /// Idempotency key of the request.
        request: RequestId,
        /// The lease that it runs under, if the request names one.
        lease: Option<LeaseId>,
        /// Name of the program.
        name: String,
        /// The actor of the request.
        actor: Actor,
    },
    /// Such a command has ended.
    EndRun {
        /// Idempotency key of the request.
        request: RequestId,
        /// Its exit code; none when it did not exit by itself.
        code: Option<i32>,
        /// Why it has no exit code, if it has none.
        why: Option<String>,
    },
    /// Carry a database to its next generation.
    Migrate {
        /// A new id for the migration.
        migration: MigrationId,
        /// The plan of the migration.
        plan: MigrationPlan,
        /// The actor of the request.
        actor: Actor,
    },
    /// End a migration that has not begun to install the new database.
    CancelMigration {
        /// The migration's id.
        migration: MigrationId,
    },
    /// Put the old database back.
    UndoMigration {
        /// The migration's id.
        migration: MigrationId,
        /// The actor of the request.
        actor: Actor,
        /// Whether a new database that was written to since is put aside.
        keep_new: bool,
    },
    /// Release a lease; an unknown one is a success.
    Release {
        /// The lease's id.
        lease: LeaseId,
    },
    /// A repository was found at another path; its marker proves that it is the same.
    MoveRepository {
        /// Its common directory, as the log has it.
        from: HostPath,
        /// Its common directory at present.
        to: HostPath,
    },
    /// Allow hooks of this content in this repository.
    Trust(RepositoryTrusted),
    /// Withdraw all trust in a repository.
    Distrust(RepositoryDistrusted),
    /// An effect reports a fact that must be durable before the effect goes on.
    Note {
        /// Identity of the effect.
        effect: EffectId,
        /// The fact to record.
        note: Note,
    },
    /// An effect has ended. If it is no longer owed, this changes nothing.
    Settle(Settlement),
    /// A deadline has passed.
    Tick,
}

/// What a daemon finds about its data directory when it opens the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ground {
    /// Its previous and its present path, when they differ.
    pub moved: Option<(HostPath, HostPath)>,
    /// Path of the original, when this is a copy.
    pub copy_of: Option<HostPath>,
    /// The last record that it is known to have had, when the log has fewer.
    pub had: Option<Seq>,
}

/// The request for a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restore {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// The incarnation to restore; the last one when left out.
    pub incarnation: Option<u32>,
    /// The branch to check out, when its directory is not in the trash any more.
    pub branch: Option<String>,
    /// Whether that branch exists already, at the commit that is restored.
    pub reuse_branch: bool,
    /// The actor of the request.
    pub actor: Actor,
    /// Idempotency key, when one was given.
    pub request: Option<RequestId>,
    /// Nonce of the new incarnation.
    pub nonce: Nonce,
}

/// The request for a provision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provision {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// The environment to make.
    pub plan: Plan,
    /// The actor of the request.
    pub actor: Actor,
    /// Idempotency key, when one was given.
    pub request: Option<RequestId>,
    /// Nonce of the new incarnation.
    pub nonce: Nonce,
    /// The tree from which git reads attributes, if the request names one.
    pub attributes: Option<String>,
}

/// The request for an adoption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopt {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// Path and repository of the worktree.
    pub plan: Plan,
    /// The commit at HEAD.
    pub head: String,
    /// Facts about the worktree.
    pub worktree: Worktree,
    /// The actor of the request.
    pub actor: Actor,
    /// Nonce of the new incarnation.
    pub nonce: Nonce,
}
