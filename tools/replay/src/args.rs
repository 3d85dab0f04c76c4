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

/// The data directory that a daemon of this user uses when none is named.
fn data_dir() -> PathBuf {
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(home) = named("GROUNDSKEEPER_HOME") {
        return home.into();
    }
    #[cfg(windows)]
    if let Some(data) = named("APPDATA") {
        return PathBuf::from(data).join("groundskeeper");
    }
    let below = |home| PathBuf::from(home).join(".local/share");
    let data = named("XDG_DATA_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let data = data.or_else(|| named("HOME").map(below)).unwrap_or_default();
    data.join("groundskeeper")
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Records, one a line
    #[command(after_help = "Examples:
  replay list --last 20
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
    /// The fate of an environment: who asked, what was decided, why it ended, where its work is
    #[command(after_help = "Examples:
  replay explain demo
  replay explain log.redb demo
  replay explain ~/.local/share/groundskeeper demo --life 2 --json | jq '.incarnations[0].work'")]
    Explain(ExplainArgs),
    /// Lives beside each other on one line of time
    #[command(after_help = "Examples:
  replay timeline log.redb --since 1d
  replay timeline log.redb --html timeline.html
  replay timeline log.redb --env demo --json")]
    Timeline(TimelineArgs),
    /// Is it whole, does it add up, was every rule kept
    #[command(after_help = "Examples:
  replay verify log.redb
  replay verify log.redb --json | jq .breaches")]
    Verify {
        /// The log, or the data directory of a daemon [default: that of this user]
        #[arg(default_value_os_t = data_dir(), hide_default_value = true)]
        file: PathBuf,
    },
    /// The first record that breaks an invariant
    #[command(after_help = "Examples:
  replay bisect --list
  replay bisect log.redb tombstone-final
  replay bisect log.redb any --to 500")]
    Bisect(BisectArgs),
    /// The log for other tools: NDJSON, a SQLite database, or the flat form
    #[command(after_help = "Examples:
  replay export log.redb --env demo | jq .kind
  replay export log.redb --format sqlite -O log.db && sqlite3 log.db 'select kind, count(*) from records group by 1'
  replay export ~/.local/share/groundskeeper --format flat -O log.flat     a copy of a live log")]
    Export(ExportArgs),
    /// A new log of the records up to a point
    #[command(after_help = "Examples:
  replay fork log.redb --at 500 before.redb
  replay fork log.redb --at '2026-11-22 01:30' before.redb")]
    Fork(ForkArgs),
    /// A backup, put back as the log of a data directory
    #[command(after_help = "Examples:
  replay restore backup.flat ~/.local/share/groundskeeper
  replay restore backup.flat log.redb")]
    Restore(RestoreArgs),
    /// The fold has one outcome: twice, against snapshots, against the daemon's state
    #[command(after_help = "Examples:
  replay check-replay log.redb
  replay check-replay ~/.local/share/groundskeeper --json")]
    CheckReplay {
        /// The log, or the data directory of a daemon [default: that of this user]
        #[arg(default_value_os_t = data_dir(), hide_default_value = true)]
        file: PathBuf,
    },
    /// What a byte scan still finds of a damaged log, as a new one
    #[command(after_help = "Examples:
  replay salvage broken.redb salvaged.redb
  replay salvage broken.redb salvaged.redb --json | jq .lost_ranges")]
    Salvage(SalvageArgs),
    /// A log to show to others: names, paths, messages and output hashed
    #[command(after_help = "Examples:
  replay redact log.redb shared.redb
  replay redact log.redb | less                      as NDJSON")]
    Redact(RedactArgs),
    /// Print the manual page
    #[command(hide = true)]
    Man,
    /// Print completions for a shell
    #[command(hide = true)]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// How much of what is in a log
    #[command(after_help = "Examples:
  replay stats log.redb
  replay stats log.redb --json | jq '.kinds[0]'")]
    Stats(StatsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// The log, or the data directory of a daemon [default: that of this user]
    #[arg(default_value_os_t = data_dir(), hide_default_value = true)]
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
pub(crate) struct ExplainArgs {
    /// The log, or the data directory of a daemon [default: that of this user], and the environment
    #[arg(value_names = ["FILE", "ENV"], num_args = 1..=2, required = true)]
    words: Vec<PathBuf>,
    /// Only this incarnation of it
    #[arg(long, value_name = "N")]
    pub(crate) life: Option<u32>,
    /// Show the end of what hooks printed, where their transcripts are on this machine
    #[arg(long)]
    pub(crate) output: bool,
}

impl ExplainArgs {
    /// The log.
    pub(crate) fn file(&self) -> PathBuf {
        match self.words.as_slice() {
            [file, _] => file.clone(),
            _ => data_dir(),
        }
    }

    /// Which environment.
    pub(crate) fn environment(&self) -> String {
        self.words.last().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

#[derive(Debug, Args)]
pub(crate) struct TimelineArgs {
    /// The log, or the data directory of a daemon [default: that of this user]
    #[arg(default_value_os_t = data_dir(), hide_default_value = true)]
    pub(crate) file: PathBuf,
    /// Only this environment
    #[arg(long = "env", short = 'e', value_name = "ENV")]
    pub(crate) environment: Option<String>,
    /// Not before: a time (UTC), a date, or how long ago (2h, 3d)
    #[arg(long, short = 'S', value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Not after
    #[arg(long, short = 'U', value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// At most so many environments, those that something happened to last
    #[arg(long, default_value_t = 200, value_name = "N")]
    pub(crate) limit: usize,
    /// Write one self-contained page to this file (`-` for stdout)
    #[arg(long, value_name = "PAGE")]
    pub(crate) html: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct BisectArgs {
    /// The log
    #[arg(required_unless_present = "list")]
    pub(crate) file: Option<PathBuf>,
    /// Which invariant; `any` for any of them
    #[arg(required_unless_present = "list")]
    pub(crate) invariant: Option<String>,
    /// Name the invariants
    #[arg(long)]
    pub(crate) list: bool,
    /// Look no further than this record (or time)
    #[arg(long, value_name = "SEQ")]
    pub(crate) to: Option<String>,
}

/// Forms of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Form {
    /// One JSON object a line
    Ndjson,
    /// A database with one row a record
    Sqlite,
    /// Records as they stand in the log, one after another
    Flat,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The log
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) filter: Filter,
    /// Which form
    #[arg(long, value_enum, default_value_t = Form::Ndjson)]
    pub(crate) format: Form,
    /// Where to; NDJSON goes to stdout when left out
    #[arg(long, short = 'O', value_name = "OUT")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ForkArgs {
    /// The log
    pub(crate) file: PathBuf,
    /// The new log
    pub(crate) new: PathBuf,
    /// The last record to take: a number, `last`, a time or how long ago
    #[arg(long, value_name = "SEQ")]
    pub(crate) at: String,
    /// Keep the identity of the log: only for a daemon that is to take its place
    #[arg(long)]
    pub(crate) same_id: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The backup, in any form
    pub(crate) backup: PathBuf,
    /// The data directory, or the new file
    pub(crate) to: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct SalvageArgs {
    /// The damaged file
    pub(crate) file: PathBuf,
    /// The new log
    pub(crate) new: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RedactArgs {
    /// The log
    pub(crate) file: PathBuf,
    /// The new log; NDJSON on stdout when left out
    pub(crate) new: Option<PathBuf>,
    /// Salt of the hashes; drawn at random when left out
    #[arg(long, value_name = "TEXT")]
    pub(crate) salt: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// The log, or the data directory of a daemon [default: that of this user]
    #[arg(default_value_os_t = data_dir(), hide_default_value = true)]
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
