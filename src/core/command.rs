//! Commands to the core, from users, from effects that settle, and from the clock.
//!
//! Everything that is not a function of the state arrives in a command: ids, times, commit hashes,
//! byte counts. Commands are not stored; the events they lead to are.

use super::effect::{Note, Outcome};
use super::event::{Actor, MigrationPlan, Plan, Retention, TeardownOptions, Worktree};
use super::fault::Fault;
use super::id::{
    EffectId, EnvironmentId, HostPath, LeaseId, MigrationId, Nonce, RequestId, Seq, Time,
};
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
    Provision {
        /// The environment's id.
        environment: EnvironmentId,
        /// The environment to make.
        plan: Plan,
        /// The actor of the request.
        actor: Actor,
        /// Idempotency key, when one was given.
        request: Option<RequestId>,
        /// Nonce of the new incarnation.
        nonce: Nonce,
        /// The tree from which git reads attributes, if the request names one.
        attributes: Option<String>,
    },
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
    Adopt {
        /// The environment's id.
        environment: EnvironmentId,
        /// Path and repository of the worktree.
        plan: Plan,
        /// The commit at HEAD.
        head: String,
        /// Facts about the worktree.
        worktree: Worktree,
        /// The actor of the request.
        actor: Actor,
        /// Nonce of the new incarnation.
        nonce: Nonce,
    },
    /// Record a process that waits to run a command for an environment.
    Launch {
        /// The environment's id.
        environment: EnvironmentId,
        /// Process id of the command.
        pid: u32,
        /// Its start time as the kernel reports it.
        started: u64,
        /// Name of its program.
        name: String,
        /// The actor of the request.
        actor: Actor,
    },
    /// Record that such a command has ended; an unknown one is a success.
    Exited {
        /// The environment's id.
        environment: EnvironmentId,
        /// Process id of the command.
        pid: u32,
    },
    /// Watching an environment failed too often.
    WatchGaveUp {
        /// The environment's id.
        environment: EnvironmentId,
        /// Number of the incarnation.
        incarnation: u32,
        /// Failures in a row.
        attempts: u32,
        /// The last failure.
        reason: String,
    },
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
    Sweep {
        /// Whether findings that are proven managed are settled, or only reported.
        apply: bool,
        /// Most findings it may settle before it stops and waits for another request.
        limit: u64,
        /// The actor of the request.
        actor: Actor,
    },
    /// Claim that an environment is in use; the same lease again moves its end.
    Lease {
        /// The environment to lease.
        environment: EnvironmentId,
        /// The lease's id.
        lease: LeaseId,
        /// When it ends by itself.
        until: Time,
        /// Reason, in the words of the holder.
        purpose: String,
        /// The actor of the request.
        actor: Actor,
        /// Idempotency key, when one was given.
        request: Option<RequestId>,
    },
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
        /// Why it has no exit code; empty when it has one.
        why: String,
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
    /// Put the old database back.
    UndoMigration {
        /// The migration's id.
        migration: MigrationId,
        /// The actor of the request.
        actor: Actor,
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
    Trust {
        /// Common directory of the repository.
        repository: HostPath,
        /// SHA-256 of the hook in hex.
        hash: String,
        /// The actor of the request.
        actor: Actor,
    },
    /// Withdraw all trust in a repository.
    Distrust {
        /// Common directory of the repository.
        repository: HostPath,
        /// The actor of the request.
        actor: Actor,
    },
    /// An effect reports a fact that must be durable before the effect goes on.
    Note {
        /// Identity of the effect.
        effect: EffectId,
        /// The fact to record.
        note: Note,
    },
    /// An effect has ended. If it is no longer owed, this changes nothing.
    Settle {
        /// Identity of the effect.
        effect: EffectId,
        /// Its outcome, or why it failed.
        outcome: Result<Outcome, Fault>,
    },
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
