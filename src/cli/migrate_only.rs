//! The program of a build without the daemon: it migrates databases and has no other verb.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use super::args::{Global, Migrate};
use super::error::{CliError, asks_for_json, usage_code, usage_problem};
use super::output::print_json;
use super::{local, render};

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
        Err(e) => {
            if e.use_stderr() && asks_for_json(std::env::args_os()) {
                print_json(&CliError::to_json(&usage_problem(&e)));
            } else {
                drop(e.print());
            }
            return usage_code(&e);
        }
    };
    let Verb::Migrate(what) = arguments.verb;
    local::run(&arguments.global, &what).unwrap_or_else(|e| {
        if arguments.global.json {
            print_json(&CliError::to_json(&e.0));
        } else {
            render::problem(&e.0);
        }
        e.exit_code()
    })
}
