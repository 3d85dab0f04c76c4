//! groundskeeper: a daemon that owns the life cycle of the git worktrees of coding agents.
//!
//! This page describes the architecture. It names the modules in a good reading order.
//!
//! # The four ideas
//!
//! 1. **The log is the truth.** Every fact is an event in one append-only log; all state is a fold
//!    over it.
//! 2. **The core is pure.** The events of a command, the meaning of a fact and the effects that are
//!    owed are functions of the state, without I/O, clock or randomness.
//! 3. **Recovery is not a code path.** After a restart the daemon folds the log and asks the state
//!    which effects it owes. An interrupted operation is a state that still owes an effect.
//! 4. **Nothing is deleted that is not proven managed and proven saved.** A directory is removed
//!    only when log, marker and managed root agree, and then by a rename to the trash.
//!
//! # The modules
//!
//! ```text
//!  cli, api                adapters: requests into use cases, results back; they decide nothing
//!  session                 an adapter as well: the commands of a control server, and its events
//!     |                    (server: that control server; it touches nothing on a host)
//!  daemon                  own the data directory, open the log, serve, drain
//!     |
//!  http                    what api and server share: extractors, problems, connections, tokens
//!     |
//!  service                 use cases as typed functions, and the wire types; no HTTP
//!     |
//!  engine                  the one loop: decide, append, apply, publish, reply, start what is owed
//!    / \
//! journal  world, migrate  journal: the log, on redb. world: git, files, processes.
//!    \ /                   migrate: SQLite databases on their way to the next generation
//!   system                 paths, file errors, `/proc`, real directories, the wall clock, locks
//!     |
//!   core                   pure: ids, commands, events, state, owed effects, policy
//! ```
//!
//! Dependencies point down only; the test `tests/it/tidy.rs` enforces it. `core` imports none of
//! the other modules. `world` never appends. Only `engine` holds both a journal and a world. Each
//! external crate is named in one module. tokio is absent from `core`, `journal`, `world` and
//! `migrate`. `core`, `failpoint`, `system`, `journal`, `migrate` and the Executor's recipe are
//! packages of their own, so that the compiler holds what each of them may name. [`clock`] reads
//! the wall clock for all of them, but for the ages that people are shown
//! ([`format`](mod@format)); [`sync`] locks what a panic may have left locked. All but the core
//! may use both.
//!
//! # A request, from end to end
//!
//! `groundskeeper new demo` connects to the socket (and starts a daemon if none runs). The API
//! calls `service::environments`, which finds the repository and sends `Command::Provision` into
//! the engine's mailbox. The engine decides it against the state, commits the event
//! `ProvisionRequested`, applies and publishes it, and replies. The state now owes
//! `Step::ResolveBase`; the driver starts it on a thread; `world` asks git and reports the commit;
//! that settlement is a command again, leads to `BaseResolved`, and the state owes
//! `Step::AddWorktree`. This continues until the state owes nothing. A kill at any instant loses
//! only the thread: the same effect is owed after the next start, and every effect converges.
//!
//! # A removal, from end to end
//!
//! `groundskeeper rm demo` is one decision (`core::transition::teardown`) and a chain of owed
//! effects: an inspection for work that would be lost, whose fingerprint defines the consent; the
//! teardown hook; the end of every process (`world::process`); a rescue ref for work that no branch
//! holds (`world::effects::rescue`); one rename to the trash; registration and branch; the
//! tombstone. The directory in the trash and the rescue ref are a subject of their own,
//! `core::model::archive`, with its own effects: the directory is measured and inspected once more
//! for work written in the last moment (`world::effects::late_writes`), kept for its retention and
//! unlinked slowly (`world::effects::archive`), or restored as a new incarnation
//! (`world::effects::restore`). A sweep (`world::effects::sweep`) reports everything that no record
//! explains, and at the start and once a day settles what is proven managed: the directory of an
//! ended incarnation becomes an archive (`core::transition::leftover`).
//!
//! # git and other programs
//!
//! git supplies objects and answers queries. The daemon creates and deletes refs itself in
//! `world::git::ref_changes`, file by file in `world::git::ref_files`, under locks
//! (`world::git::locks`) that name their process; `world::git::reachability` finds objects that
//! nothing else references. `world::process::git_env` defines the environment of a child process,
//! `world::fs::beneath` opens paths that other processes may change, and `world::process::redact`
//! removes secrets from text before it is stored.
//!
//! # A database, from one generation to the next
//!
//! `groundskeeper migrate` is one command to the core (`core::transition::migration`), whose phases
//! are events and whose steps are owed like those of a teardown. `migrate::runner` performs them:
//! it inspects the source and settles the files of an earlier attempt, makes a private copy and
//! brings it to one shape, runs a recipe that builds the new database beside it, writes secrets,
//! verifies the result, and installs it with one rename. Until then every failure leads back to the
//! untouched old database. `recipes` lists the recipes. `migrate::standalone` does the same
//! in the calling process, with a log of its own: for `groundskeeper migrate` where no daemon runs,
//! and for the control server's own catalogue. A build without the feature `daemon` has only that.
//!
//! # A query, and a change
//!
//! `groundskeeper status demo` asks `world::status::query`, whose cache keeps and shares results.
//! While a subscriber follows changes (a stream, a lease), `engine::watcher` makes
//! `world::watch::backend` watch the worktree as `core::watch_machine` decides; then a result is
//! valid until a change is seen. Every step of a teardown first drops the watch.
//! A list computes no status: `world::presence` looks whether each worktree is there and what its
//! HEAD names, within a bound that a hung file system cannot exceed. Where a list is asked for
//! changes, `world::survey` brings as many statuses up to date as it can within the same bound.
//!
//! # A session, and its end
//!
//! `session::connector` connects to a control server (`server`), reports the live environments and
//! takes in the live set, which is one command to the core (`core::transition::reconcile`). The
//! server sends commands; `session::commands` queues them per environment and carries each out with
//! the use case of the API, under an idempotency key. `session::outbox` reports events from the
//! log up to a position that the server acknowledges. At the server one writer (`server::store`)
//! compares and sets; operations are sent again until they are answered. A broken connection loses
//! nothing: the next one begins with the live environments, the operations in progress and the
//! reported log position. Suspended time (`core::suspend`) does not count towards the peer timeout.
//! `server::sim` tests both sides against each other over a simulated network.
//!
//! # What users read
//!
//! [`manual`] has the pages that the README leads to: guarantees, commands, settings, the control
//! server and the API. Help and manual pages come from `cli::args`. `cli::units` has the files for
//! systemd and launchd; `tools/dist` packs all of it, and `tools/picture` draws what the README
//! shows.
//!
//! # Audit and tests
//!
//! `core::invariants` lists what no log may show and checks it beside the state's fold; the tests
//! of the core, `replay verify` and, through it, `tools/torture` use it. `journal::forensic` reads
//! a log without changing it, `journal::salvage` reads one that does not open. `failpoint` is where
//! tests and torture runs kill the daemon, make the world fail, and disable a guard to show that a
//! test notices; a shipped build contains none of it.
//!
//! # Invariants
//!
//! * Acknowledged means durable; a failed commit ends the process.
//! * One effect at a time per subject (an environment, its archive, the host). A settlement whose
//!   effect is no longer owed changes nothing. Children of a dead daemon hold the environment's
//!   lock until they end.
//! * Every wait, retry, queue and buffer has a bound, named where it is used.
//! * Everything that is stored or sent is a contract in `schema/`.
//! * Everything that must never happen, as far as a log can show it, is in [`core::invariants`],
//!   which the laws of the core, the tests of the whole daemon and `replay verify` use.

pub use groundskeeper_core as core;
pub use groundskeeper_failpoint as failpoint;
pub use groundskeeper_journal as journal;
pub use groundskeeper_journal::describe;
pub use groundskeeper_journal::format;
pub use groundskeeper_migrate as migrate;
pub use groundskeeper_system::{clock, sync};

pub mod manual;

#[cfg(feature = "daemon")]
pub mod api;
pub mod cli;
#[cfg(feature = "daemon")]
pub mod config;
#[cfg(feature = "daemon")]
pub mod config_file;
#[cfg(feature = "daemon")]
pub mod daemon;
mod default_dir;
#[cfg(feature = "daemon")]
pub mod engine;
#[cfg(feature = "daemon")]
pub mod http;
pub mod recipes;
#[cfg(feature = "daemon")]
pub mod server;
pub mod service;
#[cfg(feature = "daemon")]
pub mod session;
#[cfg(feature = "daemon")]
pub mod world;

/// Version of this program, from its Cargo manifest.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
