//! The verbs of the command line. Their doc comments are the help text that users see.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use clap_complete::ArgValueCandidates as Candidates;

use super::archives::{Rescue, Trash};
use super::daemon::{ConfigVerb, DaemonVerb, ServiceVerb, Start};
use super::duration::{Since, duration, since};
use super::environments::{Gc, New, Remove};
use super::migrate::Migrate;
use super::server::{Hosts, Server};
use crate::cli::completion;

/// Parses a field and its value.
fn filter(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').filter(|(field, _)| !field.is_empty());
    let (field, value) = parts.ok_or_else(|| format!("{text:?} is not FIELD=VALUE"))?;
    Ok((field.to_owned(), value.to_owned()))
}

/// A shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU bash
    Bash,
    /// Z shell
    Zsh,
    /// fish
    Fish,
    /// nushell
    Nu,
}

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
        /// Only those with this value of a field of --json, such as phase=ready; missing=true
        #[arg(long = "filter", value_name = "FIELD=VALUE", value_parser = filter)]
        filters: Vec<(String, String)>,
        /// Print this for each of them, with {id}, {path}, {branch} or any other field of --json
        #[arg(long, value_name = "TEXT", conflicts_with = "json")]
        format: Option<String>,
    },
    /// Show one environment
    Show {
        /// Environment id, or the beginning of one [default: where you stand]
        #[arg(add = Candidates::new(completion::ids))]
        id: Option<String>,
    },
    /// Show the git status of environments: branch, distance, changes, operation in progress
    Status {
        /// Environment id, the beginning of one, or `.` for where you stand [default: all]
        #[arg(add = Candidates::new(completion::ids))]
        id: Option<String>,
        /// Keep showing it as it changes
        #[arg(long)]
        watch: bool,
    },
    /// Show the changes in an environment since its base commit
    Diff {
        /// Environment id, or the beginning of one [default: where you stand]
        #[arg(add = Candidates::new(completion::ids))]
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
        /// Environment id [default: the one removed last, after a question]
        #[arg(add = Candidates::new(completion::removed))]
        id: Option<String>,
        /// Incarnation number [default: the last]
        #[arg(long, value_name = "N")]
        incarnation: Option<u32>,
    },
    /// Run a command in an environment, with a lease on the environment
    Exec {
        /// Environment id; `.` for where you stand
        #[arg(add = Candidates::new(completion::ids))]
        id: String,
        /// Command and its arguments
        #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
        command: Vec<std::ffi::OsString>,
    },
    /// List the processes that use an environment
    Ps {
        /// Environment id, or the beginning of one [default: where you stand]
        #[arg(add = Candidates::new(completion::ids))]
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
        #[arg(add = Candidates::new(completion::ids))]
        id: String,
        /// Put back what the last clean moved, where the path is free
        #[arg(long)]
        undo: bool,
        /// Unlink the files at once; they cannot be put back
        #[arg(long, conflicts_with = "undo")]
        now: bool,
        /// Only show what would be moved
        #[arg(long, conflicts_with_all = ["undo", "now"])]
        dry_run: bool,
    },
    /// Cancel the provision of an environment, or withdraw a postponed removal
    Cancel {
        /// Environment id; `.` for where you stand
        #[arg(add = Candidates::new(completion::ids))]
        id: String,
    },
    /// Give an environment a label, shown in `ls`; its id, directory and branch stay as they are
    ///
    /// A restored environment has the label that it had.
    Rename {
        /// Environment id; `.` for where you stand
        #[arg(add = Candidates::new(completion::ids))]
        id: String,
        /// Label: one line of text
        #[arg(required_unless_present = "clear")]
        label: Option<String>,
        /// Take the label away
        #[arg(long, conflicts_with = "label")]
        clear: bool,
    },
    /// Take or extend a lease that marks an environment as in use
    Lease {
        /// Environment id; `.` for where you stand
        #[arg(add = Candidates::new(completion::ids))]
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
        #[arg(add = Candidates::new(completion::leases))]
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
        #[arg(add = Candidates::new(completion::ids))]
        id: Option<String>,
        /// Which life of it [default: the last]
        #[arg(long, value_name = "N")]
        incarnation: Option<u32>,
    },
    /// Print the event log, one record a line
    Events {
        /// Print only records after this seq, or since this time: 10m ago, or 2026-01-31T12:00Z
        #[arg(long, default_value = "0", value_name = "SEQ|TIME", value_parser = since)]
        since: Since,
        /// Print only the last records, so many
        #[arg(long, short = 'n', value_name = "N")]
        last: Option<usize>,
        /// Keep printing new records
        #[arg(long, short)]
        follow: bool,
        /// Print only records about this environment; `.` for where you stand
        #[arg(add = Candidates::new(completion::ids), long, value_name = "ID")]
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
    /// Run the daemon in the foreground, or ask about the one that runs
    #[command(args_conflicts_with_subcommands = true)]
    Daemon {
        /// What to ask
        #[command(subcommand)]
        what: Option<DaemonVerb>,
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
    /// Show or check the settings
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Let the service manager (systemd or launchd) run the daemon
    #[command(subcommand)]
    Service(ServiceVerb),
    /// Stop the daemon, and wait until its process has ended
    Stop,
    /// Check the requirements of the daemon
    Doctor,
    /// Print the directory of an environment; the shell function `gk` changes to it
    Cd {
        /// Environment id, or the beginning of one [default: where you stand]
        #[arg(add = Candidates::new(completion::ids))]
        id: Option<String>,
    },
    /// Print the shell function `gk`, which changes the directory, with completions
    ///
    /// `gk` is groundskeeper, and goes to the environment after `new`, `restore` and `cd`, and to
    /// the repository after the removal of the directory you stand in. Put this into the file that
    /// your shell reads at its start:
    ///
    ///   bash   eval "$(groundskeeper init bash)"     in ~/.bashrc
    ///   zsh    eval "$(groundskeeper init zsh)"      in ~/.zshrc, after compinit
    ///   fish   groundskeeper init fish | source      in ~/.config/fish/config.fish
    ///   nu     groundskeeper init nu | save -f ~/.cache/gk.nu, then `source` that file (0.108)
    #[command(verbatim_doc_comment)]
    Init {
        /// Shell
        shell: Shell,
    },
    /// Print the completions for a shell; `init` prints them, too
    Completions {
        /// Shell
        shell: Shell,
    },
    /// Print a manual page, or write those of all verbs
    Man {
        /// The verb, as in `man trash empty` [default: the page of the program]
        verb: Vec<String>,
        /// Write all pages into this directory, as `man` finds them below man1
        #[arg(long, value_name = "DIR", conflicts_with = "verb")]
        dir: Option<PathBuf>,
    },
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
            | Self::Cd { id }
            | Self::Restore { id, .. }
            | Self::Events { env: id, .. }
            | Self::Trash(Trash::Empty { id, .. }) => id.as_deref(),
            Self::Exec { id, .. }
            | Self::Clean { id, .. }
            | Self::Cancel { id }
            | Self::Rename { id, .. }
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
            | Self::Config(_)
            | Self::Service(_)
            | Self::Stop
            | Self::Doctor
            | Self::Init { .. }
            | Self::Completions { .. }
            | Self::Man { .. } => None,
        }
    }
}
