//! The command line: every verb and flag. Its doc comments are the help text that users see.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::daemon::run::ReadyFormat;

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 refused by a rule, 2 fault, 3 not found, 4 busy, 64 usage.

Examples:
  groundskeeper new demo                 an isolated worktree of the repository you are in
  cd $(groundskeeper new)                the same, with a name made up
  groundskeeper new fix --base v1.2      from a tag
  groundskeeper rm demo                  remove it; refuses if work would be lost
  groundskeeper restore demo             and have it back
  groundskeeper exec demo -- make test   run a command in it, which ends with it
  groundskeeper events --follow --json   everything that happens";

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
    /// Where the daemon keeps its log, worktrees and trash
    #[arg(long, global = true, env = "GROUNDSKEEPER_HOME", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// One JSON object or array on stdout, everything else on stderr
    #[arg(long, global = true)]
    pub json: bool,
    /// Never ask; take what is safe
    #[arg(long, global = true)]
    pub no_input: bool,
    /// Do not start a daemon when none runs
    #[arg(long, global = true)]
    pub no_autostart: bool,
    /// Say less
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say more; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make an environment and print its path
    New(New),
    /// List environments
    Ls {
        /// Also those that are destroyed
        #[arg(long)]
        all: bool,
    },
    /// Show one environment
    Show {
        /// Its name
        id: String,
    },
    /// Show what environments look like: branch, distance, changes, what is in progress
    Status {
        /// Its name [default: all]
        id: Option<String>,
        /// Go on showing it as it changes
        #[arg(long)]
        watch: bool,
    },
    /// Show the changes in an environment since it was made
    Diff {
        /// Its name
        id: String,
        /// Only what is not committed
        #[arg(long)]
        head: bool,
        /// Most bytes to show [default: 262144]
        #[arg(long, value_name = "N")]
        bytes: Option<u32>,
    },
    /// Remove an environment; refuses if work would be lost
    Rm {
        /// Its name
        id: String,
        /// Move unsaved work to the trash with it, and break leases
        #[arg(long)]
        force: bool,
        /// What becomes of the branch: keep, delete-if-merged, delete [default: as configured]
        #[arg(long, value_name = "POLICY")]
        branch: Option<String>,
        /// Do not run the teardown hook
        #[arg(long)]
        no_teardown: bool,
        /// End processes that merely stand in the directory, too: shells, editors
        #[arg(long)]
        end_bystanders: bool,
        /// Leave work to the trash alone: when the disk is too full to save it under a ref
        #[arg(long, requires = "force")]
        no_rescue: bool,
        /// Say what would be lost and who uses it, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Bring back what was removed, as a new incarnation
    Restore {
        /// Its name
        id: String,
        /// Which life of it [default: the last]
        #[arg(long, value_name = "N")]
        incarnation: Option<u32>,
    },
    /// Run a command in an environment, with a lease on it
    Exec {
        /// Its name
        id: String,
        /// The command
        #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
        command: Vec<std::ffi::OsString>,
    },
    /// List the processes that live in an environment
    Ps {
        /// Its name
        id: String,
    },
    /// Watch and lease a worktree that somebody else made; it is never deleted
    Adopt {
        /// The worktree
        path: PathBuf,
        /// Its name; made up when left out
        #[arg(long, value_name = "ID")]
        id: Option<String>,
    },
    /// What was removed and can be restored with all its files
    #[command(subcommand)]
    Trash(Trash),
    /// The refs that hold what no branch has
    #[command(subcommand)]
    Rescue(Rescue),
    /// Look for what crashes and other tools left behind; names it and changes nothing
    Sweep {
        /// Settle what is proven ours
        #[arg(long, conflicts_with = "dry_run")]
        apply: bool,
        /// Only name what is found (the default)
        #[arg(long)]
        dry_run: bool,
        /// Settle nothing when it would be more than this
        #[arg(long, default_value_t = crate::core::policy::SWEEP_LIMIT, value_name = "N")]
        limit: u64,
    },
    /// Remove environments that nobody needs: each as `rm` without --force would
    Gc(Gc),
    /// How much space environments and trash take
    Df,
    /// Make this host agree with a list of live environments: idle ones that it lacks are removed
    Reconcile {
        /// Those that are not destroyed; empty for none
        #[arg(
            long,
            value_delimiter = ',',
            value_name = "ID,ID,...",
            required_unless_present = "confirm"
        )]
        live: Vec<String>,
        /// Count of such lists; an older one than the last is passed over
        #[arg(long, value_name = "N", required_unless_present = "confirm")]
        epoch: Option<u64>,
        /// Let the list of this epoch take effect, which waits because it takes so much away
        #[arg(long, value_name = "EPOCH", conflicts_with_all = ["live", "epoch"])]
        confirm: Option<u64>,
    },
    /// Carry a local SQLite database to its next generation; the old one is kept
    Migrate(Migrate),
    /// Move what tools rebuild, such as build output and packages, to the trash for a day
    ///
    /// What holds a repository, or is in use, is left where it is.
    Clean {
        /// Its name
        id: String,
        /// Put back what the last clean took, where its place is free
        #[arg(long)]
        undo: bool,
        /// Unlink it at once: it cannot be put back
        #[arg(long, conflicts_with = "undo")]
        now: bool,
    },
    /// Stop making an environment, or call off a removal that was put off
    Cancel {
        /// Its name
        id: String,
    },
    /// Claim that an environment is in use
    Lease {
        /// Its name
        id: String,
        /// How long: 90s, 15m, 2h, 1d
        #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
        duration: u64,
        /// What for
        #[arg(long, default_value = "")]
        purpose: String,
        /// A lease to extend
        #[arg(long)]
        lease: Option<String>,
    },
    /// Give a lease back
    Release {
        /// Its name
        lease: String,
    },
    /// Print what happened, one record a line
    Events {
        /// Only records after this one
        #[arg(long, default_value_t = 0, value_name = "SEQ")]
        since: u64,
        /// Go on with what comes
        #[arg(long, short)]
        follow: bool,
        /// Only records about this environment
        #[arg(long, value_name = "ID")]
        env: Option<String>,
    },
    /// Allow the setup hook of a repository to run, as it is now
    Trust {
        /// A directory in the repository
        #[arg(long, default_value = ".")]
        repo: PathBuf,
        /// The content to allow, as a refusal names it [default: the hook in the worktree]
        #[arg(long, value_name = "SHA256")]
        hash: Option<String>,
        /// Show what is trusted and change nothing
        #[arg(long, conflicts_with = "hash")]
        show: bool,
        /// Take all trust back
        #[arg(long, conflicts_with = "show")]
        revoke: bool,
    },
    /// Run the daemon in the foreground
    Daemon {
        /// Leave the terminal's session (used when the daemon is started by itself)
        #[arg(long, hide = true)]
        detach: bool,
        /// What is to be done before it is ready
        #[command(flatten)]
        how: Start,
    },
    /// Run a control server in the foreground
    Server(Server),
    /// Run a control server and the daemon together, with a session between them
    Up(Server),
    /// The hosts that the control server knows
    Host {
        /// Where the server keeps its things [default: server in the data directory]
        #[arg(long, global = true, value_name = "DIR")]
        server_dir: Option<PathBuf>,
        /// What to do
        #[command(subcommand)]
        what: Hosts,
    },
    /// End the daemon; returns when it is gone
    Stop,
    /// Check what the daemon needs
    Doctor,
    /// Print completions for a shell
    Completions {
        /// Which
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// How a control server is run.
#[derive(Debug, Args)]
pub struct Server {
    /// Where it keeps its catalogue and its secrets [default: server in the data directory]
    #[arg(long, value_name = "DIR")]
    pub server_dir: Option<PathBuf>,
    /// An address to listen on as well, with the token in its admin-token file
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<std::net::SocketAddr>,
}

/// What to do with hosts.
#[derive(Debug, Subcommand)]
pub enum Hosts {
    /// Make a key for a host, and print it this once
    Add {
        /// Its name
        id: String,
        /// Give a known one another key
        #[arg(long)]
        replace: bool,
    },
    /// List them
    Ls,
    /// Forget one; nothing happens on the host itself
    Rm {
        /// Its name
        id: String,
    },
}

/// What to do with the trash.
#[derive(Debug, Subcommand)]
pub enum Trash {
    /// List it: removed environments, and what `clean` took
    Ls,
    /// Unlink what is in it, for good
    Empty {
        /// Only that of this environment
        id: Option<String>,
        /// Also what is nowhere else: it is listed, and lost
        #[arg(long, requires = "id")]
        lose: bool,
    },
}

/// What to do with rescues.
#[derive(Debug, Subcommand)]
pub enum Rescue {
    /// List them
    Ls,
    /// Show what one holds
    Show {
        /// Its environment
        id: String,
        /// Which life of it [default: the last]
        #[arg(long, value_name = "N")]
        incarnation: Option<u32>,
    },
    /// Let go of one: its ref is deleted
    Drop {
        /// Its environment
        id: String,
        /// Which life of it [default: the last]
        #[arg(long, value_name = "N")]
        incarnation: Option<u32>,
    },
}

/// Which environments nobody needs.
#[derive(Debug, Args)]
pub struct Gc {
    /// Those that were made longer ago than this
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub age: Option<u64>,
    /// Those in which nothing has happened for this long
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub idle: Option<u64>,
    /// Those that hold no work of their own, which is what is always asked of them as well
    #[arg(long)]
    pub merged: bool,
    /// Only until so many gigabytes are free: the oldest first, and their trash is unlinked
    #[arg(long, value_name = "GB")]
    pub free: Option<u64>,
    /// Say which, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What to make.
#[derive(Debug, Args)]
pub struct New {
    /// Its name; made up when left out
    pub id: Option<String>,
    /// A directory in the repository
    #[arg(long, default_value = ".", value_name = "PATH")]
    pub repo: PathBuf,
    /// Branch, tag, commit or remote branch to start from [default: the default branch]
    #[arg(long, value_name = "REV")]
    pub base: Option<String>,
    /// An existing branch to check out [default: a new branch gk/ID]
    #[arg(long, value_name = "NAME", conflicts_with = "base")]
    pub branch: Option<String>,
    /// Ask the remote for the base first
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
        other => return Err(format!("{other:?} is no unit; use s, m, h or d")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("{text:?} is not a duration"))?;
    number.checked_mul(factor).ok_or_else(|| format!("{text:?} is too long"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }

    #[test]
    fn durations_have_units() {
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

/// Carry a local SQLite database to its next generation.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Migrate {
    /// Look, or go back
    #[command(subcommand)]
    pub what: Option<Migrations>,
    /// The database
    #[arg(value_name = "DB", required = true)]
    pub database: Option<PathBuf>,
    /// How: `executor`, or a folder of SQL files
    #[arg(long, value_name = "NAME|DIR", required = true)]
    pub recipe: Option<String>,
    /// The file with the secrets beside it; where the application keeps it when left out
    #[arg(long, value_name = "FILE")]
    pub auth: Option<PathBuf>,
    /// Who owns rows where the old database does not say
    #[arg(long, value_name = "ID")]
    pub tenant: Option<String>,
    /// Build and verify everything, show it, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Rows that cannot both be kept: refuse, keep the first, or rename the others
    #[arg(long, value_name = "HOW", value_parser = ["refuse", "keep-first", "rename"])]
    pub on_conflict: Option<String>,
}

/// How migrations stand, and the way back.
#[derive(Debug, Subcommand)]
pub enum Migrations {
    /// List the migrations that are remembered
    Status {
        /// Only those of this database
        database: Option<PathBuf>,
    },
    /// Put the old database back, while the new one is as it was installed
    Undo {
        /// The database
        database: PathBuf,
    },
}

/// What a daemon does before it is ready, and how it says so.
#[derive(Debug, Args)]
pub struct Start {
    /// Bring this database up first: own it, migrate it, make it ready
    #[arg(long, value_name = "DB", requires = "recipe")]
    pub migrate: Option<PathBuf>,
    /// How: `executor`, or a folder of SQL files
    #[arg(long, value_name = "NAME|DIR", requires = "migrate")]
    pub recipe: Option<String>,
    /// The file with the secrets beside it; where the application keeps it when left out
    #[arg(long, value_name = "FILE", requires = "migrate")]
    pub auth: Option<PathBuf>,
    /// Who owns rows where the old database does not say
    #[arg(long, value_name = "ID", requires = "migrate")]
    pub tenant: Option<String>,
    /// Rows that cannot both be kept: refuse, keep the first, or rename the others
    #[arg(long, value_name = "HOW", value_parser = ["refuse", "keep-first", "rename"])]
    pub on_conflict: Option<String>,
    /// The line on stdout that says that it is ready
    #[arg(long, value_name = "FORM", default_value = "groundskeeper")]
    pub ready_format: ReadyFormat,
    /// A port as well, for those who have the token in the data directory's file `token`
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<std::net::SocketAddr>,
}
