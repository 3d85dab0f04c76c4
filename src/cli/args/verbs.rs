//! The verbs of the command line. Their doc comments are the help text that users see.

use std::path::PathBuf;

use clap::Subcommand;

use super::archives::{Rescue, Trash};
use super::daemon::Start;
use super::duration::duration;
use super::environments::{Gc, New, Remove};
use super::migrate::Migrate;
use super::server::{Hosts, Server};

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Create an environment and print its path
    New(New),
    /// List environments; with --quiet their ids alone
    Ls {
        /// Include destroyed environments
        #[arg(long)]
        all: bool,
        /// Only those of the repository at this path
        #[arg(long, value_name = "PATH", conflicts_with = "all")]
        repo: Option<PathBuf>,
    },
    /// Show one environment
    Show {
        /// Environment id, or the beginning of one [default: where you stand]
        id: Option<String>,
    },
    /// Show the git status of environments: branch, distance, changes, operation in progress
    Status {
        /// Environment id, the beginning of one, or `.` for where you stand [default: all]
        id: Option<String>,
        /// Keep showing it as it changes
        #[arg(long)]
        watch: bool,
    },
    /// Show the changes in an environment since its base commit
    Diff {
        /// Environment id, or the beginning of one [default: where you stand]
        id: Option<String>,
        /// Show only uncommitted changes
        #[arg(long)]
        head: bool,
        /// Maximum number of bytes to show [default: 262144]
        #[arg(long, value_name = "N")]
        bytes: Option<u32>,
    },
    /// Remove environments; refused if work would be lost
    Rm(Remove),
    /// Bring back a removed environment as a new incarnation
    Restore {
        /// Environment id
        id: String,
        /// Incarnation number [default: the last]
        #[arg(long, value_name = "N")]
        incarnation: Option<u32>,
    },
    /// Run a command in an environment, with a lease on the environment
    Exec {
        /// Environment id; `.` for where you stand
        id: String,
        /// Command and its arguments
        #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
        command: Vec<std::ffi::OsString>,
    },
    /// List the processes that use an environment
    Ps {
        /// Environment id, or the beginning of one [default: where you stand]
        id: Option<String>,
    },
    /// Register a foreign worktree for watching and leases; it is never deleted
    Adopt {
        /// Path of the worktree
        path: PathBuf,
        /// Environment id [default: a generated id]
        #[arg(long, value_name = "ID")]
        id: Option<String>,
    },
    /// List or empty the trash: removed environments that can be restored with all files
    #[command(subcommand)]
    Trash(Trash),
    /// List, show or drop rescue refs: saved work that no branch has
    #[command(subcommand)]
    Rescue(Rescue),
    /// List leftovers of crashes and other tools; changes nothing without --apply
    Sweep {
        /// Settle the findings that are provably managed
        #[arg(long, conflicts_with = "dry_run")]
        apply: bool,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        /// List the findings and change nothing (the default)
        #[arg(long)]
        dry_run: bool,
        /// Settle nothing if there are more findings to settle than this
        #[arg(long, default_value_t = crate::core::policy::SWEEP_LIMIT, value_name = "N")]
        limit: u64,
    },
    /// Remove unused environments, each as `rm` without --force does
    Gc(Gc),
    /// Show the disk space of environments and trash
    Df,
    /// Apply a live set to this host: remove idle environments that are not in it
    Reconcile {
        /// Ids of the live set: all environments to keep; empty for none
        #[arg(
            long,
            value_delimiter = ',',
            value_name = "ID,ID,...",
            required_unless_present = "confirm"
        )]
        live: Vec<String>,
        /// Number of the live set; a set older than the last one is ignored
        #[arg(long, value_name = "N", required_unless_present = "confirm")]
        epoch: Option<u64>,
        /// Confirm the live set of this epoch, which is on hold because it removes too many at once
        #[arg(long, value_name = "EPOCH", conflicts_with_all = ["live", "epoch"])]
        confirm: Option<u64>,
    },
    /// Migrate a local SQLite database to its next generation; the old one is kept
    Migrate(Migrate),
    /// Move rebuildable files, such as build output and packages, to the trash for a day
    ///
    /// A directory that holds a repository, or is in use, is left in place.
    Clean {
        /// Environment id; `.` for where you stand
        id: String,
        /// Put back what the last clean moved, where the path is free
        #[arg(long)]
        undo: bool,
        /// Unlink the files at once; they cannot be put back
        #[arg(long, conflicts_with = "undo")]
        now: bool,
    },
    /// Cancel the provision of an environment, or withdraw a postponed removal
    Cancel {
        /// Environment id; `.` for where you stand
        id: String,
    },
    /// Take or extend a lease that marks an environment as in use
    Lease {
        /// Environment id; `.` for where you stand
        id: String,
        /// Duration: 90s, 15m, 2h, 1d
        #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
        duration: u64,
        /// Purpose of the lease
        #[arg(long, default_value = "")]
        purpose: String,
        /// Lease to extend
        #[arg(long)]
        lease: Option<String>,
    },
    /// Release a lease
    Release {
        /// Lease id
        lease: String,
    },
    /// Write a consistent copy of the event log to a file, while the daemon runs
    Backup {
        /// The new file
        file: PathBuf,
    },
    /// Print what the setup and teardown hooks of an environment printed
    Logs {
        /// Environment id, or the beginning of one [default: where you stand]
        id: Option<String>,
        /// Which life of it [default: the last]
        #[arg(long, value_name = "N")]
        incarnation: Option<u32>,
    },
    /// Print the event log, one record a line
    Events {
        /// Print only records after this seq
        #[arg(long, default_value_t = 0, value_name = "SEQ")]
        since: u64,
        /// Keep printing new records
        #[arg(long, short)]
        follow: bool,
        /// Print only records about this environment; `.` for where you stand
        #[arg(long, value_name = "ID")]
        env: Option<String>,
    },
    /// Trust the current setup hook of a repository, so that it may run
    Trust {
        /// Directory in the repository
        #[arg(long, default_value = ".")]
        repo: PathBuf,
        /// Hash of the hook to trust, as a refusal prints it [default: the hook in the worktree]
        #[arg(long, value_name = "SHA256")]
        hash: Option<String>,
        /// Show whether the hook is trusted, and change nothing
        #[arg(long, conflicts_with = "hash")]
        show: bool,
        /// Revoke all trust in hooks of the repository
        #[arg(long, conflicts_with = "show")]
        revoke: bool,
    },
    /// Run the daemon in the foreground
    Daemon {
        /// Leave the terminal's session (used when the daemon is started automatically)
        #[arg(long, hide = true)]
        detach: bool,
        /// Flags for the start of the daemon
        #[command(flatten)]
        how: Start,
    },
    /// Run a control server in the foreground
    Server(Server),
    /// Run a control server and the daemon together, with a session between them
    Up(Server),
    /// Manage the hosts of the control server
    Host {
        /// Directory of the server [default: server in the data directory]
        #[arg(long, global = true, value_name = "DIR")]
        server_dir: Option<PathBuf>,
        /// What to do
        #[command(subcommand)]
        what: Hosts,
    },
    /// Stop the daemon, and wait until its process has ended
    Stop,
    /// Check the requirements of the daemon
    Doctor,
    /// Print the completion script for a shell
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

impl Verb {
    /// Returns the environment that the verb is about, as it was typed, for the verbs that take
    /// one.
    #[must_use]
    pub fn environment(&self) -> Option<&str> {
        match self {
            Self::Show { id }
            | Self::Status { id, .. }
            | Self::Diff { id, .. }
            | Self::Ps { id }
            | Self::Logs { id, .. }
            | Self::Events { env: id, .. }
            | Self::Trash(Trash::Empty { id, .. }) => id.as_deref(),
            Self::Restore { id, .. }
            | Self::Exec { id, .. }
            | Self::Clean { id, .. }
            | Self::Cancel { id }
            | Self::Lease { id, .. }
            | Self::Rescue(Rescue::Show { id, .. } | Rescue::Drop { id, .. }) => Some(id),
            Self::Rm(wanted) => match wanted.ids.as_slice() {
                [only] => Some(only),
                _ => None,
            },
            Self::New(_)
            | Self::Ls { .. }
            | Self::Adopt { .. }
            | Self::Trash(Trash::Ls)
            | Self::Rescue(Rescue::Ls)
            | Self::Sweep { .. }
            | Self::Gc(_)
            | Self::Df
            | Self::Reconcile { .. }
            | Self::Migrate(_)
            | Self::Release { .. }
            | Self::Backup { .. }
            | Self::Trust { .. }
            | Self::Daemon { .. }
            | Self::Server(_)
            | Self::Up(_)
            | Self::Host { .. }
            | Self::Stop
            | Self::Doctor
            | Self::Completions { .. }
            | Self::Man => None,
        }
    }
}
