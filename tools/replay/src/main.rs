//! `replay`: reads the log of a daemon after the fact. Works on any copy, also that of a killed
//! daemon; never writes to it, and needs no daemon.
//!
//! Exit codes: 0 intact, 1 damage found, 2 usage, 3 cannot be read.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use groundskeeper::core::Seq;
use groundskeeper::journal::inspect::Depth;
use groundskeeper::journal::{Error, Inspection, inspect};
use groundskeeper::record;

/// Reads the log of a groundskeeper daemon, without changing it.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    /// One JSON object a line
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print records
    Show {
        /// The log, for example ~/.local/share/groundskeeper/log.redb
        file: PathBuf,
        /// Only this record
        seq: Option<u64>,
    },
    /// Check every record, the chain, the head, the snapshots and the state they add up to
    Verify {
        /// The log
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.verb {
        Verb::Show { file, seq } => show(file, *seq, arguments.json),
        Verb::Verify { file } => verify(file, arguments.json),
    };
    match result {
        Ok(code) => code,
        Err(e) => explain(&e, arguments.json),
    }
}

fn print(text: &str) {
    // A reader that has gone away (`| head`) is not an error.
    drop(std::io::stdout().lock().write_all(text.as_bytes()));
}

fn show(file: &Path, only: Option<u64>, json: bool) -> Result<ExitCode, Error> {
    let mut found = only.is_none();
    inspect(file, Depth::Everything, &mut |r, _| {
        if only.is_some_and(|seq| Seq(seq) != r.seq) {
            return;
        }
        found = true;
        let value = record::json(r);
        if json || only.is_some() {
            let text = if json { value.to_string() } else { format!("{value:#}") };
            print(&format!("{text}\n"));
        } else {
            let about = r.event.environment().map_or("-", |e| e.as_str());
            let at = record::rfc3339(r.at);
            print(&format!("{:>8}  {at}  {:<22} {about}\n", r.seq, r.event.kind()));
        }
    })?;
    if !found {
        eprintln!("error: there is no such record\nhint: `replay show FILE` lists all");
        return Ok(ExitCode::from(1));
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(file: &Path, json: bool) -> Result<ExitCode, Error> {
    let Inspection { log_id, head, state, first, folded } =
        inspect(file, Depth::Everything, &mut |_, _| {})?;
    let contradiction = state.check().err();
    let id = record::hex(&log_id);
    if json {
        let value = serde_json::json!({
            "ok": contradiction.is_none(), "log_id": id, "records": folded, "first": first.0,
            "last": head.seq, "contradiction": contradiction,
        });
        print(&format!("{value}\n"));
    } else {
        let last = head.seq;
        print(&format!("{folded} records, {first} to {last}, of log {id}\n"));
        print("checksums, chain, head and snapshots agree\n");
        match &contradiction {
            None => print("the state they add up to is consistent\n"),
            Some(what) => print(&format!("the state they add up to is NOT consistent: {what}\n")),
        }
    }
    Ok(ExitCode::from(u8::from(contradiction.is_some())))
}

fn explain(error: &Error, json: bool) -> ExitCode {
    let mut causes = Vec::new();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    if json {
        let value = serde_json::json!({
            "ok": false, "error": error.to_string(), "causes": causes, "hint": error.hint(),
        });
        print(&format!("{value}\n"));
    } else {
        eprintln!("error: {error}");
        for cause in causes {
            eprintln!("  caused by: {cause}");
        }
        eprintln!("hint: {}", error.hint());
    }
    ExitCode::from(if matches!(error, Error::Damaged { .. }) { 1 } else { 3 })
}
