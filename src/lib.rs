//! groundskeeper: the daemon that owns the life cycle of the git worktrees that agents work in.
//!
//! This page is the architecture. Read the modules in this order.
//!
//! # The four ideas
//!
//! 1. **The log is the truth.** Every fact is an event in one append-only log; all state is a fold
//!    over it.
//! 2. **The core is pure.** What a command leads to, what a fact means and what is owed to the
//!    world are functions of the state, without I/O, clock or chance.
//! 3. **Recovery is not a code path.** After a restart the log is folded and the state is asked
//!    what it owes. An interrupted operation is a state that still owes an effect.
//! 4. **Nothing is deleted that is not proven ours and proven saved.** A directory goes only when
//!    log, marker and managed root agree, and then by rename to a trash.
//!
//! # The house
//!
//! ```text
//!  cli, api                faces: the outside into commands and back; no decisions of their own
//!  session                 a face as well: the orders of a control server, and the news for it
//!     |                    (server: that control server; it touches nothing on a host)
//!  daemon                  own the data directory, open the log, serve, drain
//!     |
//!  engine                  the one loop: decide, append, apply, publish, reply, start what is owed
//!    / \
//! journal  world, migrate  journal: the log, on redb. world: git, files, processes.
//!    \ /                   migrate: SQLite databases on their way to the next generation
//!   core                   pure: ids, commands, events, state, owed effects, policy
//! ```
//!
//! Dependencies point down only, and a test (`tests/it/tidy.rs`) holds that. `core` imports nothing
//! of ours. `world` never appends. Only `engine` holds both a journal and a world. An outside crate
//! is named in one module. tokio is absent from `core`, `journal` and `world`.
//!
//! # A request, from end to end
//!
//! `groundskeeper new demo` connects to the socket (and starts a daemon if none runs). The API
//! finds the repository and sends `Command::Provision` into the engine's mailbox. The engine
//! decides it against the state, commits the event `ProvisionRequested`, applies and publishes it,
//! and replies. The state now owes `Step::ResolveBase`; the driver starts it on a thread; `world`
//! asks git and reports the commit; that settlement is a command again, leads to `BaseResolved`,
//! and the state owes `Step::AddWorktree`. So it goes on until the state owes nothing. A kill at
//! any instant loses nothing but the thread: the same effect is owed after the next start, and
//! every effect converges.
//!
//! # A removal, from end to end
//!
//! `groundskeeper rm demo` is one decision (`core::transition::teardown`) and a chain of owed
//! effects: a look for work that would be lost, with a fingerprint that is the consent; the
//! teardown hook; the end of every process (`world::process`); a rescue ref for what no branch has
//! (`world::effects::rescue`); one rename to the trash, registration and branch; the tombstone.
//! What is left then (directory in the trash, rescue ref) is a subject of its own,
//! `core::model::archive`, with its own effects: it is measured and looked at once more for what
//! was written in the last moment (`world::effects::late_writes`), kept for a while and unlinked
//! slowly (`world::effects::archive`), or restored as a new incarnation
//! (`world::effects::restore`). A sweep (`world::effects::sweep`) names what no record explains.
//!
//! # What is git's, and what is somebody else's
//!
//! git brings objects, and looks. Refs are made and deleted in `world::git::ref_changes`, file by
//! file in `world::git::ref_files`, under locks (`world::git::locks`) that name their process;
//! `world::git::reachability` asks what nothing else holds. `world::process::git_env` is what a
//! process inherits, `world::fs::beneath` how a path is opened that somebody else may change, and
//! `world::process::redact` what is taken out of a text before it is kept.
//!
//! # A database, from one generation to the next
//!
//! `groundskeeper migrate` is one command to the core (`core::transition::migration`), whose phases
//! are events and whose steps are owed like those of a teardown. `migrate::runner` performs them:
//! the source is looked at and what was left beside it is settled, a private copy is made and
//! brought to one shape, a recipe builds the new database beside it, secrets are written, it is
//! proven whole, and one rename installs it. Until then every failure leads back to the untouched
//! old database. `migrate::standalone` folds the same facts in memory, for the control server's own
//! catalogue.
//!
//! # A look, and a change
//!
//! `groundskeeper status demo` asks `world::status::query`, whose cache keeps and shares answers.
//! While somebody follows changes (a stream, a lease), `engine::watcher` has
//! `world::watch::backend` see to the worktree as `core::watch_machine` says; then an answer holds
//! until something is seen to change. Any step of a teardown lets go of the watch first.
//!
//! # A session, and its end
//!
//! `session::connector` connects to a control server (`server`), says what lives here and takes the
//! live set in, which is one command to the core (`core::transition::reconcile`). What the server
//! wants done comes as commands; `session::commands` puts them into a queue for each environment
//! and hands them to the API like anybody's request, with an idempotency key. What happens is told
//! from the log (`session::outbox`) up to a position that the server acknowledges. At the server
//! one writer (`server::store`) compares and sets; operations are told again until they are
//! answered. A connection that breaks loses nothing: the next one begins with what lives, what is
//! under way and how far the log was told. Suspended time (`core::suspend`) does not
//! count towards the peer timeout. `server::sim::network` puts both sides against each other over a
//! network that is made up.
//!
//! # After the fact, and the proof
//!
//! `core::invariants` names what no log may show and folds it beside the state; the tests of the
//! core, `replay verify` and, through it, `tools/torture` ask it. `journal::forensic` reads a log
//! without changing it, `journal::salvage` one that does not open. `failpoint` is where tests and
//! torture kill the daemon and make the world fail, and take a guard away to show that it is
//! missed; a shipped build has none of it.
//!
//! # Invariants
//!
//! * Acknowledged means durable; a failed commit ends the process.
//! * One effect at a time per subject (an environment, remains, the host). A settlement whose
//!   effect is no longer owed changes nothing. Children of a dead daemon hold the environment's
//!   lock until they end.
//! * Every wait, retry, queue and buffer has a bound, named where it is used.
//! * What is stored or sent is a contract in `schema/`.
//! * What must never happen, as far as a log can show it, is [`core::invariants`]: the laws of the
//!   core, the tests of the whole daemon and `replay verify` ask there.

pub mod core;
pub mod journal;

#[cfg(feature = "daemon")]
pub mod api;
#[cfg(feature = "daemon")]
pub mod cli;
#[cfg(feature = "daemon")]
pub mod config;
#[cfg(feature = "daemon")]
pub mod daemon;
#[cfg(feature = "daemon")]
pub mod engine;
#[cfg(feature = "daemon")]
pub mod failpoint;
pub mod format;
#[cfg(feature = "daemon")]
pub mod migrate;
#[cfg(feature = "daemon")]
pub mod server;
#[cfg(feature = "daemon")]
pub mod session;
#[cfg(feature = "daemon")]
pub mod world;

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
