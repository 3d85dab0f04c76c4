//! What can be asked of the core, by people, by effects that come home, and by the clock.
//!
//! Everything that is not a function of the state rides in on a command: ids, times, commit
//! hashes, byte counts. Commands are not stored; the events they lead to are.

use super::effect::{Note, Outcome};
use super::event::{Actor, MigrationPlan, Plan, Retention, TeardownOptions, Worktree};
use super::fault::Fault;
use super::id::{
    EffectId, EnvironmentId, HostPath, LeaseId, MigrationId, Nonce, RequestId, Seq, Time,
};
use crate::core::model::live_set::LiveSet;

/// One request to the core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A daemon has opened the log.
    Start {
        /// Its process id.
        pid: u32,
        /// Its version.
        version: String,
        /// How long what is removed is kept.
        retention: Retention,
        /// What is found of the ground that it stands on.
        ground: Ground,
    },
    /// The daemon is about to close the log.
    Stop {
        /// Why.
        reason: String,
    },
    /// Make an environment; the same plan for a living one is a success that changes nothing.
    Provision {
        /// Its name.
        environment: EnvironmentId,
        /// What to make.
        plan: Plan,
        /// Who asks.
        actor: Actor,
        /// Idempotency key.
        request: Option<RequestId>,
        /// What will tell this life from all others.
        nonce: Nonce,
        /// The tree from which whoever asks has git read attributes, if any.
        attributes: Option<String>,
    },
    /// Stop making an environment; nothing to cancel is a success.
    Cancel {
        /// Which.
        environment: EnvironmentId,
        /// Who asks.
        actor: Actor,
    },
    /// Take an environment apart; an unknown or tombstoned one is a success.
    Destroy {
        /// Which.
        environment: EnvironmentId,
        /// Which life of it; another one is not touched. None means the present one.
        incarnation: Option<u32>,
        /// Whether unsaved work may go to the trash, and leases may be broken.
        force: bool,
        /// How it is to be done.
        options: TeardownOptions,
        /// Who asks.
        actor: Actor,
        /// Idempotency key.
        request: Option<RequestId>,
    },
    /// Bring an incarnation back that is over, as a new one.
    Restore(Restore),
    /// Watch and lease a worktree that somebody else made; the same one again is a success.
    Adopt {
        /// Its name.
        environment: EnvironmentId,
        /// Where it is, and whose.
        plan: Plan,
        /// The commit it is at.
        head: String,
        /// Its facts.
        worktree: Worktree,
        /// Who asks.
        actor: Actor,
        /// What will tell this life from all others.
        nonce: Nonce,
    },
    /// A command waits to be started for an environment.
    Launch {
        /// Which environment.
        environment: EnvironmentId,
        /// Its process id.
        pid: u32,
        /// Its start time as the kernel tells it.
        started: u64,
        /// Name of its program.
        name: String,
        /// Who asks.
        actor: Actor,
    },
    /// Such a command is over; an unknown one is a success.
    Exited {
        /// Which environment.
        environment: EnvironmentId,
        /// Its process id.
        pid: u32,
    },
    /// Watching an environment failed too often.
    WatchGaveUp {
        /// Which.
        environment: EnvironmentId,
        /// Which life of it.
        incarnation: u32,
        /// Failures in a row.
        attempts: u32,
        /// The last of them.
        reason: String,
    },
    /// Somebody asks for the changes of an environment whose watching was given up.
    WatchAgain {
        /// Which.
        environment: EnvironmentId,
    },
    /// Move the rebuildable output of an environment to the trash.
    Clean {
        /// Which.
        environment: EnvironmentId,
        /// Whether it is unlinked at once.
        now: bool,
        /// Who asks.
        actor: Actor,
    },
    /// Put back what the last clean of an environment took.
    UndoClean {
        /// Which.
        environment: EnvironmentId,
        /// Who asks.
        actor: Actor,
    },
    /// Unlink what is in the trash.
    EmptyTrash {
        /// Only that of this environment.
        environment: Option<EnvironmentId>,
        /// Also what is nowhere else; only for an environment that is named.
        lose: bool,
        /// Who asks.
        actor: Actor,
    },
    /// The disk is nearly full.
    DiskLow,
    /// Let go of a rescue.
    DropRescue {
        /// Whose.
        environment: EnvironmentId,
        /// Which life of it.
        incarnation: u32,
        /// Who asks.
        actor: Actor,
    },
    /// Look for what no record explains.
    Sweep {
        /// Whether what is proven ours is settled, or only named.
        apply: bool,
        /// Most things it may settle before it stops and asks.
        limit: u64,
        /// Who asks.
        actor: Actor,
    },
    /// Claim that an environment is in use; the same lease again moves its end.
    Lease {
        /// Which environment.
        environment: EnvironmentId,
        /// The lease's name.
        lease: LeaseId,
        /// When it ends by itself.
        until: Time,
        /// What for.
        purpose: String,
        /// Who asks.
        actor: Actor,
        /// Idempotency key.
        request: Option<RequestId>,
    },
    /// Make this host agree with a live set.
    Reconcile {
        /// What the server says.
        set: LiveSet,
        /// How what is not listed is torn down.
        options: TeardownOptions,
        /// Who brings it.
        actor: Actor,
    },
    /// Let a live set that waits take effect.
    ConfirmLiveSet {
        /// Which.
        epoch: u64,
        /// How what is not listed is torn down.
        options: TeardownOptions,
        /// Who confirms it.
        actor: Actor,
    },
    /// A command is about to be run for a request; it is never run twice.
    BeginRun {
        /// In which environment.
        environment: EnvironmentId,
        /// The request.
        request: RequestId,
        /// The lease that it runs under, if it names one.
        lease: Option<LeaseId>,
        /// Name of the program.
        name: String,
        /// Who asks.
        actor: Actor,
    },
    /// Such a command has ended.
    EndRun {
        /// The request.
        request: RequestId,
        /// Its exit code.
        code: Option<i32>,
        /// Why it has none.
        why: String,
    },
    /// Carry a database to its next generation.
    Migrate {
        /// A new name for it.
        migration: MigrationId,
        /// How.
        plan: MigrationPlan,
        /// Who asks.
        actor: Actor,
    },
    /// Put the old database back.
    UndoMigration {
        /// Which migration.
        migration: MigrationId,
        /// Who asks.
        actor: Actor,
    },
    /// Give a lease back; an unknown one is a success.
    Release {
        /// Which.
        lease: LeaseId,
    },
    /// A repository was found at another place; its marker proves that it is the same.
    MoveRepository {
        /// Its common directory, as the log has it.
        from: HostPath,
        /// Its common directory, as it is.
        to: HostPath,
    },
    /// Allow hooks of this content in this repository.
    Trust {
        /// Common directory of the repository.
        repository: HostPath,
        /// SHA-256 of the hook in hex.
        hash: String,
        /// Who asks.
        actor: Actor,
    },
    /// Take all trust in a repository back.
    Distrust {
        /// Common directory of the repository.
        repository: HostPath,
        /// Who asks.
        actor: Actor,
    },
    /// An effect tells a fact that must be durable before it goes on.
    Note {
        /// Which effect.
        effect: EffectId,
        /// The fact.
        note: Note,
    },
    /// An effect has ended. If it is no longer owed, this changes nothing.
    Settle {
        /// Which effect.
        effect: EffectId,
        /// How it ended.
        outcome: Result<Outcome, Fault>,
    },
    /// A deadline has passed.
    Tick,
}

/// What a daemon finds of its data directory when it opens the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ground {
    /// Where the data directory was and where it is, when that is not the same.
    pub moved: Option<(HostPath, HostPath)>,
    /// Where the original is, when this is a copy.
    pub copy_of: Option<HostPath>,
    /// The last record that it is known to have had, when the log has fewer.
    pub had: Option<Seq>,
}

/// What a restore is asked for with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restore {
    /// Its name.
    pub environment: EnvironmentId,
    /// Which life of it; the last one when left out.
    pub incarnation: Option<u32>,
    /// The branch to come back on, when its directory is not in the trash any more.
    pub branch: Option<String>,
    /// Whether that branch is there already, at the commit that is restored.
    pub reuse_branch: bool,
    /// Who asks.
    pub actor: Actor,
    /// Idempotency key.
    pub request: Option<RequestId>,
    /// What will tell this life from all others.
    pub nonce: Nonce,
}
