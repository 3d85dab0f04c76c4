//! What can be typed: `replay VERB FILE ...`, with an example for each verb.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::filter::Filter;

const EXIT_CODES: &str = "\
FILE is a log.redb, a data directory, or a flat export. The log of a daemon that runs is read \
through its socket. No verb ever changes FILE.

Exit codes: 0 intact or done, 1 damage, a broken invariant or nothing found, 2 usage, 3 cannot be read.

Examples:
  replay explain ~/.local/share/groundskeeper demo   who removed it, why, and where its work is
  replay list log.redb --since 2h -o teardown        what was taken apart lately
  replay verify log.redb                             is it whole, and was every rule kept";

/// Reads the log of a groundskeeper daemon after the fact, without changing it.
#[derive(Debug, Parser)]
#[command(name = "replay", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Arguments {
    /// One JSON object, or one a line, on stdout; everything else on stderr
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Do not start a pager
    #[arg(long, global = true)]
    pub(crate) no_pager: bool,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Records, one a line
    #[command(after_help = "Examples:
  replay list log.redb --last 20
  replay list log.redb --env demo -o teardown -o trash
  replay list log.redb --since '2026-11-22 01:30' --actor api --json
  replay list ~/.local/share/groundskeeper --follow")]
    List(ListArgs),
    /// One record in full
    #[command(after_help = "Examples:
  replay show log.redb 42
  replay show log.redb last --json | jq .fault")]
    Show {
        /// The log
        file: PathBuf,
        /// Which record: a number or `last`; all of them, one a line, when left out
        seq: Option<String>,
    },
    /// The state after a record
    #[command(after_help = "Examples:
  replay at log.redb 42
  replay at log.redb '2026-11-22 01:30'
  replay at log.redb --env demo --json | jq .environment.phase")]
    At(AtArgs),
    /// What changed in the state between two records
    #[command(after_help = "Examples:
  replay diff log.redb 40 last
  replay diff log.redb 1h last --env demo")]
    Diff(DiffArgs),
    /// The effects that a daemon would start after a record
    #[command(after_help = "Examples:
  replay owed log.redb
  replay owed log.redb 42 --now 2026-11-22T02:00:00Z")]
    Owed(OwedArgs),
    /// How much of what is in a log
    #[command(after_help = "Examples:
  replay stats log.redb
  replay stats log.redb --json | jq '.kinds[0]'")]
    Stats(StatsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// The log
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) filter: Filter,
    /// Only the last N that fit
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) last: Option<usize>,
    /// The newest first
    #[arg(long, short = 'r', conflicts_with = "follow")]
    pub(crate) reverse: bool,
    /// Go on with what comes; needs the daemon
    #[arg(long, short = 'f')]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AtArgs {
    /// The log
    pub(crate) file: PathBuf,
    /// After which record: a number, `last` (default), a time or how long ago
    pub(crate) seq: Option<String>,
    /// Only this environment and its remains, in full
    #[arg(long = "env", short = 'e', value_name = "ENV")]
    pub(crate) environment: Option<String>,
    /// Tombstones, too
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The log
    pub(crate) file: PathBuf,
    /// From the state after this record (or time)
    pub(crate) a: String,
    /// To the state after this one
    pub(crate) b: String,
    /// Only of this environment
    #[arg(long = "env", short = 'e', value_name = "ENV")]
    pub(crate) environment: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct OwedArgs {
    /// The log
    pub(crate) file: PathBuf,
    /// After which record: a number, `last` (default), a time or how long ago
    pub(crate) seq: Option<String>,
    /// As if it were this time; the time of the record when left out
    #[arg(long, value_name = "TIME")]
    pub(crate) now: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// The log
    pub(crate) file: PathBuf,
    /// How many environments, days and starts to show
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub(crate) top: usize,
    /// Do not check the checksum of each record
    #[arg(long)]
    pub(crate) no_checksums: bool,
}

impl ListArgs {
    /// Every record of a log.
    pub(crate) fn all(file: PathBuf) -> Self {
        Self { file, filter: Filter::default(), last: None, reverse: false, follow: false }
    }
}
