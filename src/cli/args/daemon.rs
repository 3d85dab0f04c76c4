//! Arguments for the start of a daemon, and for what is asked about one that runs.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::logging::Logging;
use crate::daemon::ready::ReadyFormat;

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
    /// Begin a new log in a data directory whose log is lost: adopt its worktrees, leave the rest
    #[arg(long)]
    pub start_over: bool,
    /// Flags for the log.
    #[command(flatten)]
    pub logging: Logging,
}

/// What to ask about a daemon.
#[derive(Debug, Subcommand)]
pub enum DaemonVerb {
    /// Show the daemon that runs; exit code 3 if none does
    Status,
    /// Print the end of the log of a daemon that was started in the background
    Logs {
        /// Number of lines
        #[arg(long, short = 'n', default_value_t = 100, value_name = "N")]
        lines: usize,
        /// Keep printing new lines
        #[arg(long, short)]
        follow: bool,
    },
    /// Let the daemon start again in its process, with the settings as they are now
    Reload,
}

/// What to do with the service of the user's service manager.
#[derive(Debug, Subcommand)]
pub enum ServiceVerb {
    /// Let systemd or launchd run the daemon; shows the files and commands first
    Install {
        /// Only show them
        #[arg(long)]
        dry_run: bool,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Stop the service and remove its files
    Uninstall {
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Show what the service manager says; exit code 3 if it does not run
    Status,
}

/// What to do with the settings.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Print the settings in effect, as a file has them
    Show {
        /// With where each of them comes from
        #[arg(long)]
        origin: bool,
    },
    /// Check a file, and change nothing
    Check {
        /// The file [default: the one in use]
        file: Option<PathBuf>,
    },
    /// Print the path of the file in use
    Path,
}
