//! `bench`: the figures that the project promises, each as a ratio measured in the same run.
//!
//! Build everything with `cargo build --release --workspace` first; the daemon that is measured is
//! the `groundskeeper` beside this program. Rounds of ours and theirs are interleaved, and medians
//! are printed, because timings on a shared machine are noisy.

#![expect(clippy::cast_precision_loss, reason = "figures for people have three digits")]
#![expect(clippy::expect_used, reason = "a measurement that cannot be made has no other end")]

mod daemon;
mod logs;
mod migration;
mod provision;
mod removal;
mod session;
mod table;
mod unwatched;
mod watching;

use std::process::ExitCode;

use clap::Parser;

/// Measures groundskeeper against git and against the disk.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Which parts: provision, parallel, removal, sweep, unlink, journal, clients, fold, ls, idle,
    /// session, watching, memory, large, unwatched, migration;
    /// all when left out
    parts: Vec<String>,
    /// Rounds of 32 provisions at once
    #[arg(long, default_value_t = 100)]
    rounds: u32,
    /// Where temporary repositories and data go
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: std::path::PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let wanted =
        |part: &str| arguments.parts.is_empty() || arguments.parts.iter().any(|p| p == part);
    let dir = match tempfile::Builder::new().prefix("gk-bench").tempdir_in(&arguments.dir) {
        Ok(dir) => dir,
        Err(e) => {
            eprintln!("error: no temporary directory in {}: {e}", arguments.dir.display());
            return ExitCode::from(2);
        }
    };
    let mut table = table::Table::new();
    if wanted("provision") {
        provision::cold(dir.path(), &mut table);
    }
    if wanted("parallel") {
        provision::parallel(dir.path(), arguments.rounds, &mut table);
    }
    if wanted("removal") {
        removal::remove_and_restore(dir.path(), &mut table);
    }
    if wanted("sweep") {
        removal::sweep(dir.path(), &mut table);
    }
    if wanted("session") {
        session::all(dir.path(), &mut table);
    }
    if wanted("watching") {
        watching::watched(dir.path(), &mut table);
    }
    if wanted("memory") {
        watching::memory(dir.path(), &mut table);
    }
    if wanted("large") {
        watching::large(dir.path(), &mut table);
    }
    if wanted("unwatched") {
        unwatched::unchanged(dir.path(), &mut table);
    }
    if wanted("migration") {
        migration::all(dir.path(), &mut table);
    }
    if wanted("unlink") {
        removal::unlink(dir.path(), &mut table);
    }
    if wanted("journal") {
        logs::commits(dir.path(), &mut table);
    }
    if wanted("clients") {
        logs::clients(dir.path(), &mut table);
    }
    if wanted("fold") {
        logs::fold(dir.path(), &mut table);
    }
    if wanted("ls") {
        daemon::list(dir.path(), &mut table);
    }
    if wanted("idle") {
        daemon::idle(dir.path(), &mut table);
        daemon::reopen(dir.path(), &mut table);
    }
    if table.finish() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}
