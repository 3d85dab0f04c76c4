//! The command line: every verb and flag. Its doc comments are the help text that users see.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::daemon::run::ReadyFormat;

const EXIT_CODES: &str = "\
Exit codes: 0 success, 1 refused by a rule, 2 fault, 3 not found, 4 busy, 64 usage.

Examples:
  groundskeeper new demo                 create an isolated worktree of the current repository
  cd $(groundskeeper new)                do the same with a generated id
  groundskeeper new fix --base v1.2      start from a tag
  groundskeeper rm demo                  remove it; refused if work would be lost
  groundskeeper restore demo             bring it back
  groundskeeper exec demo -- make test   run a command in it; the command ends with it
  groundskeeper events --follow --json   print every event as it happens";

/// Life cycle of git worktree environments for coding agents.
#[derive(Debug, Parser)]
#[command(name = "groundskeeper", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Arguments {
    /// Flags that every verb takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Flags that every verb takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Data directory of the daemon: log, worktrees and trash
    #[arg(long, global = true, env = "GROUNDSKEEPER_HOME", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Print one JSON object or array on stdout, everything else on stderr
    #[arg(long, global = true)]
    pub json: bool,
    /// Never prompt; use the safe default
    #[arg(long, global = true)]
    pub no_input: bool,
    /// Do not start a daemon if none is running
    #[arg(long, global = true)]
    pub no_autostart: bool,
    /// Print less
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Log more; give it twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Create an environment and print its path
    New(New),
    /// List environments
    Ls {
        /// Include destroyed environments
        #[arg(long)]
        all: bool,
    },
    /// Show one environment
    Show {
        /// Environment id
        id: String,
    },
    /// Show the git status of environments: branch, distance, changes, operation in progress
    Status {
        /// Environment id [default: all]
        id: Option<String>,
        /// Keep showing it as it changes
        #[arg(long)]
        watch: bool,
    },
    /// Show the changes in an environment since its base commit
    Diff {
        /// Environment id
        id: String,
        /// Show only uncommitted changes
        #[arg(long)]
        head: bool,
        /// Maximum number of bytes to show [default: 262144]
        #[arg(long, value_name = "N")]
        bytes: Option<u32>,
    },
    /// Remove an environment; refused if work would be lost
    Rm {
        /// Environment id
        id: String,
        /// Move work at risk to the trash with it, and break leases
        #[arg(long)]
        force: bool,
        /// Branch policy: keep, delete-if-merged, delete [default: as configured]
        #[arg(long, value_name = "POLICY")]
        branch: Option<String>,
        /// Do not run the teardown hook
        #[arg(long)]
        no_teardown: bool,
        /// Also end processes that only have their working directory or files open there: shells,
        /// editors
        #[arg(long)]
        end_bystanders: bool,
        /// Save work in the trash only, without a rescue ref: for a disk too full for one
        #[arg(long, requires = "force")]
        no_rescue: bool,
        /// Show the work at risk and the users of the environment, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
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
        /// Environment id
        id: String,
        /// Command and its arguments
        #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
        command: Vec<std::ffi::OsString>,
    },
    /// List the processes that use an environment
    Ps {
        /// Environment id
        id: String,
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
        /// Environment id
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
        /// Environment id
        id: String,
    },
    /// Take or extend a lease that marks an environment as in use
    Lease {
        /// Environment id
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
    /// Print the event log, one record a line
    Events {
        /// Print only records after this seq
        #[arg(long, default_value_t = 0, value_name = "SEQ")]
        since: u64,
        /// Keep printing new records
        #[arg(long, short)]
        follow: bool,
        /// Print only records about this environment
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

/// Flags of a control server.
#[derive(Debug, Args)]
pub struct Server {
    /// Directory for its catalogue and secrets [default: server in the data directory]
    #[arg(long, value_name = "DIR")]
    pub server_dir: Option<PathBuf>,
    /// TCP address to listen on as well; clients need the token in its admin-token file
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<std::net::SocketAddr>,
}

/// What to do with hosts.
#[derive(Debug, Subcommand)]
pub enum Hosts {
    /// Create a key for a host; it is printed only once
    Add {
        /// Host id
        id: String,
        /// Replace the key of a known host
        #[arg(long)]
        replace: bool,
    },
    /// List the hosts
    Ls,
    /// Remove a host from the server; nothing changes on the host itself
    Rm {
        /// Host id
        id: String,
    },
}

/// What to do with the trash.
#[derive(Debug, Subcommand)]
pub enum Trash {
    /// List the trash: removed environments, and files that `clean` moved
    Ls,
    /// Unlink the trash entries permanently
    Empty {
        /// Unlink only the entries of this environment
        id: Option<String>,
        /// Also unlink entries that are the only copy of work; the work is listed, and lost
        #[arg(long, requires = "id")]
        lose: bool,
    },
}

/// What to do with rescues.
#[derive(Debug, Subcommand)]
pub enum Rescue {
    /// List the rescues
    Ls,
    /// Show the content of a rescue
    Show {
        /// Environment id
        id: String,
        /// Incarnation number [default: the last]
        #[arg(long, value_name = "N")]
        incarnation: Option<u32>,
    },
    /// Delete the ref of a rescue
    Drop {
        /// Environment id
        id: String,
        /// Incarnation number [default: the last]
        #[arg(long, value_name = "N")]
        incarnation: Option<u32>,
    },
}

/// Conditions for the removal of unused environments.
#[derive(Debug, Args)]
pub struct Gc {
    /// Only environments created longer ago than this
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub age: Option<u64>,
    /// Only environments whose content has not changed for this long
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub idle: Option<u64>,
    /// Only environments without work at risk; this always applies, with or without the flag
    #[arg(long)]
    pub merged: bool,
    /// Remove the oldest first, unlink their trash, and stop when so many gigabytes are free
    #[arg(long, value_name = "GB")]
    pub free: Option<u64>,
    /// List what would be removed, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Flags of the environment to create.
#[derive(Debug, Args)]
pub struct New {
    /// Environment id [default: a generated id]
    pub id: Option<String>,
    /// Directory in the repository
    #[arg(long, default_value = ".", value_name = "PATH")]
    pub repo: PathBuf,
    /// Branch, tag, commit or remote branch to start from [default: the default branch]
    #[arg(long, value_name = "REV")]
    pub base: Option<String>,
    /// Existing branch to check out [default: a new branch gk/ID]
    #[arg(long, value_name = "NAME", conflicts_with = "base")]
    pub branch: Option<String>,
    /// Fetch the base from the remote first
    #[arg(long)]
    pub fetch: bool,
    /// Keep the worktree when the setup hook fails
    #[arg(long)]
    pub keep_failed: bool,
    /// Do not run the setup hook
    #[arg(long)]
    pub no_setup: bool,
}

/// Seconds in a text such as `90s`, `15m`, `2h` or `1d`; a bare number is seconds.
fn duration(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        other => return Err(format!("{other:?} is not a unit; use s, m, h or d")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("{text:?} is not a duration"))?;
    number.checked_mul(factor).ok_or_else(|| format!("{text:?} is too long"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_definition_passes_debug_assert() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }

    /// Missing, unknown, negative and overflowing values are errors.
    #[test]
    fn duration_units_parse_to_seconds() {
        for (text, seconds) in
            [("90", 90), ("90s", 90), ("15m", 900), ("2h", 7_200), ("1d", 86_400)]
        {
            assert_eq!(duration(text), Ok(seconds));
        }
        for bad in ["", "h", "1w", "-1s", "99999999999999999999d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}

/// Migrate a local SQLite database to its next generation.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Migrate {
    /// Show or undo migrations
    #[command(subcommand)]
    pub what: Option<Migrations>,
    /// Path of the database
    #[arg(value_name = "DB", required = true)]
    pub database: Option<PathBuf>,
    /// Recipe: `executor`, or a folder of SQL files
    #[arg(long, value_name = "NAME|DIR", required = true)]
    pub recipe: Option<String>,
    /// File with the secrets of the database [default: the application's own path]
    #[arg(long, value_name = "FILE")]
    pub auth: Option<PathBuf>,
    /// Owner of rows for which the old database names none
    #[arg(long, value_name = "ID")]
    pub tenant: Option<String>,
    /// Build and verify the new database, show the result, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Handling of rows that cannot all be kept: refuse, keep the first, or rename the others
    #[arg(long, value_name = "HOW", value_parser = ["refuse", "keep-first", "rename"])]
    pub on_conflict: Option<String>,
}

/// Show or undo migrations.
#[derive(Debug, Subcommand)]
pub enum Migrations {
    /// List the recorded migrations
    Status {
        /// List only the migrations of this database
        database: Option<PathBuf>,
    },
    /// Put the old database back, as long as the new one is unchanged since its installation
    Undo {
        /// Path of the database
        database: PathBuf,
    },
}

/// Flags for the start of a daemon.
#[derive(Debug, Args)]
pub struct Start {
    /// Migrate this database before the daemon is ready
    #[arg(long, value_name = "DB", requires = "recipe")]
    pub migrate: Option<PathBuf>,
    /// Recipe: `executor`, or a folder of SQL files
    #[arg(long, value_name = "NAME|DIR", requires = "migrate")]
    pub recipe: Option<String>,
    /// File with the secrets of the database [default: the application's own path]
    #[arg(long, value_name = "FILE", requires = "migrate")]
    pub auth: Option<PathBuf>,
    /// Owner of rows for which the old database names none
    #[arg(long, value_name = "ID", requires = "migrate")]
    pub tenant: Option<String>,
    /// Handling of rows that cannot all be kept: refuse, keep the first, or rename the others
    #[arg(long, value_name = "HOW", value_parser = ["refuse", "keep-first", "rename"])]
    pub on_conflict: Option<String>,
    /// Format of the line on stdout that reports that the daemon is ready
    #[arg(long, value_name = "FORM", default_value = "groundskeeper")]
    pub ready_format: ReadyFormat,
    /// TCP address to listen on as well; clients need the token in the file `token` in the data
    /// directory
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<std::net::SocketAddr>,
}
