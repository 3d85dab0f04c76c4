//! The program of a build without the daemon: it migrates databases and has no other verb.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use super::args::{Global, Migrate};
use super::{error, local};

const EXIT_CODES: &str = "\
Exit codes: 0 success, 1 refused by a rule, 2 fault, 3 not found, 4 busy, 64 usage.";

/// Migration of local SQLite databases, without the daemon.
#[derive(Debug, Parser)]
#[command(name = "groundskeeper", version, after_help = EXIT_CODES, max_term_width = 100)]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Migrate(Migrate),
}

/// Runs the program and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(e) => return error::usage(&e),
    };
    let Verb::Migrate(what) = arguments.verb;
    local::run(&arguments.global, &what).unwrap_or_else(|e| e.report(&arguments.global))
}
