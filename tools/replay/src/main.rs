//! `replay`: the post-mortem tool. It reads a log, live or from a copied, damaged or locked file,
//! and answers: what happened, who asked, what is owed, is it whole, where is the work.
//!
//! It works without a daemon and never changes what it reads; only `fork`, `salvage`, `redact` and
//! `export` write, and only new files.
//!
//! Exit codes: 0 intact or done, 1 damage or a broken invariant, 2 usage, 3 cannot be read.

mod args;
mod check;
mod explain;
mod export;
mod filter;
mod fold;
mod fork;
mod history;
mod html;
mod list;
mod live;
mod out;
mod problem;
mod redact;
mod restore;
mod salvage;
mod socket;
mod source;
mod spans;
mod state;
mod stats;
mod timeline;
mod verify;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};

use args::{Arguments, ListArgs, Verb};
use out::{Out, note};
use problem::Problem;

/// A defect of this program.
const DEFECT: u8 = 3;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(e) => {
            let fine = matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            drop(e.print());
            return ExitCode::from(if fine { 0 } else { 2 });
        }
    };
    // What redb says of a damaged page by panicking comes back as an error; nobody wants it twice.
    std::panic::set_hook(Box::new(|_| {}));
    let json = arguments.json;
    let done = catch_unwind(AssertUnwindSafe(|| run(arguments)));
    match done {
        Ok(Ok(code)) => ExitCode::from(code),
        Ok(Err(problem)) => complain(&problem, json),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panic");
            note(&format!("error: a defect of replay: {text}\nhint: please report this"));
            ExitCode::from(DEFECT)
        }
    }
}

fn run(arguments: Arguments) -> Result<u8, Problem> {
    let follows = matches!(&arguments.verb, Verb::List(list) if list.follow);
    let mut out = Out::new(arguments.json, !arguments.no_pager && !follows);
    let out = &mut out;
    match arguments.verb {
        Verb::List(args) => list::list(&args, out),
        Verb::Show { file, seq: Some(seq) } => list::show(&file, &seq, out),
        Verb::Show { file, seq: None } => list::list(&ListArgs::all(file), out),
        Verb::At(args) => state::at(&args, out),
        Verb::Diff(args) => state::diff(&args, out),
        Verb::Owed(args) => state::owed(&args, out),
        Verb::Explain(args) => explain::explain(&args, out),
        Verb::Timeline(args) => timeline::timeline(&args, out),
        Verb::Verify { file } => verify::verify(&file, out),
        Verb::Bisect(args) => verify::bisect(&args, out),
        Verb::Export(args) => export::export(&args, out),
        Verb::Fork(args) => fork::fork(&args, out),
        Verb::Restore(args) => restore::restore(&args, out),
        Verb::CheckReplay { file } => check::check(&file, out),
        Verb::Salvage(args) => salvage::salvage(&args, out),
        Verb::Redact(args) => redact::redact(&args, out),
        Verb::Man => {
            let mut page = Vec::new();
            drop(clap_mangen::Man::new(Arguments::command()).render(&mut page));
            out.text(&String::from_utf8_lossy(&page));
            Ok(0)
        }
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "replay", &mut script);
            out.text(&String::from_utf8_lossy(&script));
            Ok(0)
        }
        Verb::Stats(args) => stats::stats(&args, out),
    }
}

fn complain(problem: &Problem, json: bool) -> ExitCode {
    let (causes, hint) = (problem.causes(), problem.hint());
    if json {
        let value = serde_json::json!({
            "ok": false, "error": problem.to_string(), "causes": causes, "hint": hint,
        });
        let mut out = Out::new(true, false);
        out.object(&value);
    }
    let mut text = format!("error: {problem}\n");
    for cause in causes {
        text.push_str(&format!("  caused by: {cause}\n"));
    }
    note(&format!("{text}hint: {hint}"));
    ExitCode::from(problem.code())
}
