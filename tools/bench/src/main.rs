//! `bench`: the figures that the project promises, each as a ratio measured in the same run.
//!
//! Build everything with `cargo build --release --workspace` first; the daemon that is measured is
//! the `groundskeeper` beside this program. Rounds of ours and theirs are interleaved, and medians
//! are printed, because timings on a shared machine are noisy.

#![expect(clippy::cast_precision_loss, reason = "figures for people have three digits")]
#![expect(clippy::expect_used, reason = "a measurement that cannot be made has no other end")]

mod daemon;
mod lives;
mod logs;
mod migration;
mod provision;
mod removal;
mod session;
mod table;
mod unwatched;
mod watching;
mod years;

use std::process::ExitCode;

use clap::Parser;

/// Measures groundskeeper against git and against the disk.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Which parts: provision, parallel, removal, sweep, unlink, journal, clients, fold, lives, ls,
    /// idle, session, watching, memory, large, unwatched, migration, years;
    /// all but years when left out
    parts: Vec<String>,
    /// Rounds of 32 provisions at once
    #[arg(long, default_value_t = 100)]
    rounds: u32,
    /// Weeks of the part `years`
    #[arg(long, default_value_t = 52, value_parser = clap::value_parser!(u64).range(2..=520))]
    weeks: u64,
    /// Where temporary repositories and data go
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: std::path::PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A year takes minutes, and is asked for.
    let wanted = |part: &str| {
        arguments.parts.is_empty() && part != "years" || arguments.parts.iter().any(|p| p == part)
    };
    let dir = match tempfile::Builder::new().prefix("gk-bench").tempdir_in(&arguments.dir) {
        Ok(dir) => dir,
        Err(e) => {
            eprintln!("error: no temporary directory in {}: {e}", arguments.dir.display());
            return ExitCode::from(2);
        }
    };
    let mut table = table::Table::new();
    let dir = dir.path();
    let parts: &[(&str, &dyn Fn(&mut table::Table))] = &[
        ("provision", &|table| provision::cold(dir, table)),
        ("parallel", &|table| provision::parallel(dir, arguments.rounds, table)),
        ("removal", &|table| removal::remove_and_restore(dir, table)),
        ("sweep", &|table| removal::sweep(dir, table)),
        ("session", &|table| session::all(dir, table)),
        ("watching", &|table| watching::watched(dir, table)),
        ("memory", &|table| watching::memory(dir, table)),
        ("large", &|table| watching::large(dir, table)),
        ("unwatched", &|table| unwatched::unchanged(dir, table)),
        ("migration", &|table| migration::all(dir, table)),
        ("unlink", &|table| removal::unlink(dir, table)),
        ("journal", &|table| logs::commits(dir, table)),
        ("clients", &|table| logs::clients(dir, table)),
        ("fold", &|table| logs::fold(dir, table)),
        ("lives", &|table| lives::finished(dir, table)),
        ("years", &|table| years::year(dir, arguments.weeks, table)),
        ("ls", &|table| daemon::list(dir, table)),
        ("idle", &|table| {
            daemon::idle(dir, table);
            daemon::reopen(dir, table);
        }),
    ];
    for (_, measure) in parts.iter().filter(|(name, _)| wanted(name)) {
        measure(&mut table);
    }
    if table.finish() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}
