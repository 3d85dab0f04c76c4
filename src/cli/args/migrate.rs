//! Arguments of `migrate`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::duration::duration;

/// Migrate a local SQLite database to its next generation.
#[derive(Debug, Args)]
#[command(subcommand_negates_reqs = true)]
pub struct Migrate {
    /// Show, end or undo migrations
    #[command(subcommand)]
    pub what: Option<Migrations>,
    /// Work in this process, also when a daemon runs
    #[arg(long, global = true)]
    pub no_daemon: bool,
    /// How progress is shown on stderr
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub progress: ProgressFormat,
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

/// How progress is shown on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ProgressFormat {
    /// A line that changes on a terminal, else one line a step
    #[default]
    Auto,
    /// One JSON object a line
    Json,
    /// Nothing
    None,
}

/// Show, end or undo migrations.
#[derive(Debug, Subcommand)]
pub enum Migrations {
    /// List the recorded migrations
    Status {
        /// List only the migrations of this database
        database: Option<PathBuf>,
    },
    /// End a migration that has not begun to install the new database
    Cancel {
        /// Path of the database
        database: PathBuf,
    },
    /// List old backups and what else migrations keep; removes nothing without --apply
    ///
    /// Old databases, what an undo put aside, and secrets kept for an undo. The newest backup of a
    /// database stays in any case, with its secrets. So does everything of a database whose
    /// migration or undo is in progress.
    Prune {
        /// Only what belongs to this database
        database: Option<PathBuf>,
        /// Keep what is younger, such as 30d or 12h
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        older_than: u64,
        /// Remove what can be removed
        #[arg(long, conflicts_with = "dry_run")]
        apply: bool,
        /// List everything and change nothing (the default)
        #[arg(long)]
        dry_run: bool,
    },
    /// Put the old database back; the new one is kept under another name
    ///
    /// An undo is refused when the new database or its secrets were written to since the
    /// installation. What the application does at its first start does not count.
    Undo {
        /// Also when the new database was written to: keep it, with all that was written, beside
        /// the old one
        #[arg(long)]
        keep_new: bool,
        /// Path of the database
        database: PathBuf,
    },
}
