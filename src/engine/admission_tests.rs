//! A daemon that shuts down begins nothing, and still records what ends.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use tracing::Span;

use crate::core::event::{
    Actor, EnvironmentLabeled, LeaseGranted, MigrationPlan, Plan, ProcessStarted,
    RepositoryDistrusted, Retention, SweepRequested, TeardownOptions, Worktree,
};
use crate::core::model::live_set::LiveSet;
use crate::core::{
    Adopt, Code, Command, Demand, EnvironmentId, Fault, HostPath, LeaseId, MigrationId, Nonce,
    Provision, RequestId, Restore, Time,
};
use crate::engine::handle::Message;
use crate::engine::{Engine, Handle};
use crate::journal::{self, Journal};
use crate::world::World;
use crate::world::fs::data_dir::Layout;

fn environment() -> EnvironmentId {
    EnvironmentId::parse("demo").expect("a name")
}

fn request() -> RequestId {
    RequestId::parse("once").expect("a key")
}

fn nonce() -> Nonce {
    Nonce::parse(&"0".repeat(32)).expect("a nonce")
}

/// New work that uses space.
fn uses_space() -> Vec<Command> {
    let (actor, plan) = (Actor::default(), Plan::default());
    let migration = MigrationId::parse("0123abcd").expect("a name");
    vec![
        Command::Provision(Provision {
            environment: environment(),
            plan: plan.clone(),
            actor: actor.clone(),
            request: None,
            nonce: nonce(),
            attributes: None,
        }),
        Command::Restore(Restore {
            environment: environment(),
            incarnation: None,
            branch: None,
            reuse_branch: false,
            actor: actor.clone(),
            request: None,
            nonce: nonce(),
        }),
        Command::Adopt(Adopt {
            environment: environment(),
            plan,
            head: String::new(),
            worktree: Worktree::default(),
            actor: actor.clone(),
            nonce: nonce(),
        }),
        Command::Launch(ProcessStarted {
            environment: environment(),
            pid: 1,
            started: 1,
            name: String::new(),
            actor: actor.clone(),
        }),
        Command::BeginRun {
            environment: environment(),
            request: request(),
            lease: None,
            name: String::new(),
            actor: actor.clone(),
        },
        Command::Migrate { migration, plan: MigrationPlan::default(), actor },
    ]
}

/// New work that a full disk lets through.
fn uses_no_space() -> Vec<Command> {
    let (actor, environment) = (Actor::default(), environment());
    let options = TeardownOptions::default();
    let set = LiveSet::default();
    let named = Some(environment.clone());
    vec![
        Command::Destroy {
            environment: environment.clone(),
            incarnation: None,
            force: false,
            options: options.clone(),
            actor: actor.clone(),
            request: None,
        },
        Command::Clean { environment: environment.clone(), now: false, actor: actor.clone() },
        Command::UndoClean { environment: environment.clone(), actor: actor.clone() },
        Command::EmptyTrash { environment: named, lose: false, actor: actor.clone() },
        Command::DropRescue {
            environment: environment.clone(),
            incarnation: 1,
            actor: actor.clone(),
        },
        Command::Sweep(SweepRequested { apply: true, limit: 1, actor: actor.clone() }),
        Command::Label(EnvironmentLabeled {
            environment: environment.clone(),
            label: None,
            actor: actor.clone(),
        }),
        Command::Lease(LeaseGranted {
            environment,
            lease: LeaseId::parse("lease").expect("a name"),
            until: Time(u64::MAX),
            purpose: String::new(),
            actor: actor.clone(),
            request: None,
        }),
        Command::Reconcile { set, options: options.clone(), actor: actor.clone() },
        Command::ConfirmLiveSet { epoch: 1, options, actor: actor.clone() },
        Command::UndoMigration {
            migration: MigrationId::parse("0123abcd").expect("a name"),
            actor,
            keep_new: false,
        },
    ]
}

/// Ends of work, and facts.
fn records() -> Vec<Command> {
    let (environment, actor) = (environment(), Actor::default());
    let repository = HostPath(b"/repository".to_vec());
    vec![
        Command::Cancel { environment: environment.clone(), actor: actor.clone() },
        Command::Exited { environment, pid: 1 },
        Command::EndRun { request: request(), code: Some(0), why: None },
        Command::Release { lease: LeaseId::parse("lease").expect("a name") },
        Command::Distrust(RepositoryDistrusted { repository, actor }),
    ]
}

/// Queues a command; the result arrives when the engine has decided it.
fn queue(handle: &Handle, command: Command) -> Receiver<Result<(), Fault>> {
    let (answer, answered) = sync_channel(1);
    let reply = Box::new(move |result: Result<_, Fault>| drop(answer.send(result.map(drop))));
    handle.mailbox.send(Message::Command(command, reply, Span::none())).expect("queued");
    answered
}

#[test]
fn daemon_that_shuts_down_begins_nothing() {
    let root = tempfile::tempdir().expect("a directory");
    let layout = Layout::new(root.path().canonicalize().expect("real"));
    World::prepare(&layout).expect("prepared");
    let (journal, found) =
        Journal::open(&layout.log(), journal::Options::default()).expect("a new log");
    let world = Arc::new(World::new(layout, journal.log_id()));
    let (engine, handle) = Engine::new(journal, found.state, world);
    // All are in the mailbox before the engine runs, and so in one batch with the shutdown.
    handle.shutdown("a test");
    let (begin, end) = ([uses_space(), uses_no_space()].concat(), records());
    let of = |commands: Vec<Command>| {
        let queued = commands.into_iter().map(|c| (format!("{c:?}"), queue(&handle, c)));
        queued.collect::<Vec<_>>()
    };
    let (begin, end) = (of(begin), of(end));
    let start = Command::Start {
        pid: std::process::id(),
        version: String::new(),
        retention: Retention::default(),
        ground: crate::core::Ground::default(),
    };
    let _ended = engine.run(start);
    let code = |answer: &Receiver<Result<(), Fault>>| {
        answer.recv().expect("answered").map_err(|fault| fault.code)
    };
    for (command, answer) in &begin {
        assert_eq!(code(answer), Err(Code::ShuttingDown), "{command}");
    }
    for (command, answer) in &end {
        assert_ne!(code(answer), Err(Code::ShuttingDown), "{command}");
    }
    let appended = handle.view(|state| state.seq().0);
    assert_eq!(appended, 2, "nothing but the start and the stop");
}

#[test]
fn every_command_says_what_it_demands() {
    for (commands, demand) in [
        (uses_space(), Demand::Space),
        (uses_no_space(), Demand::Work),
        (records(), Demand::Record),
    ] {
        for command in commands {
            assert_eq!(command.demand(), demand, "{command:?}");
        }
    }
}
