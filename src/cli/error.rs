//! The error of a command, and the exit code that it leads to.

use std::ffi::OsString;
use std::process::ExitCode;

use serde_json::json;

use crate::core::{Code, Fault, Kind};
use crate::service::types::problem::Problem;

/// An error that ends the command and is shown to the user.
#[derive(Debug)]
pub struct CliError(pub Box<Problem>);

impl From<Problem> for CliError {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}

impl From<Fault> for CliError {
    fn from(fault: Fault) -> Self {
        Self(Box::new(Problem::of(&fault)))
    }
}

impl CliError {
    /// Returns the exit code for the kind of the error.
    pub(super) fn exit_code(&self) -> ExitCode {
        let known = Code::ALL.iter().find(|c| c.as_str() == self.0.code);
        ExitCode::from(known.map_or(Kind::Fault, |c| c.kind()).exit_code())
    }

    /// Returns the error as the one JSON object on stdout.
    pub(super) fn to_json(problem: &Problem) -> serde_json::Value {
        let Problem { code, message, causes, evidence, hint, .. } = problem;
        json!({ "error": {
            "code": code, "message": message, "causes": causes,
            "evidence": evidence, "hint": hint,
        }})
    }
}

/// Returns whether a command line asks for JSON, also if it does not parse.
pub(super) fn asks_for_json(arguments: impl Iterator<Item = OsString>) -> bool {
    arguments.take_while(|word| word != "--").any(|word| {
        // With a value it does not parse, and is meant all the same.
        word.to_str().is_some_and(|word| word == "--json" || word.starts_with("--json="))
    })
}

/// Returns the problem of a command line that does not parse.
pub(super) fn usage_problem(error: &clap::Error) -> Problem {
    let text = error.render().to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let message = match error.kind() {
        // The whole help is its text.
        clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "a command is missing",
        _ => first.strip_prefix("error: ").unwrap_or(first),
    };
    // The last line names the flag that the hint names.
    let rest = lines.filter(|line| !line.starts_with("For more information"));
    let hint = "`groundskeeper --help` lists the commands, and `--help` after one its flags";
    let evidence: Vec<String> = rest.map(str::to_owned).collect();
    Problem::of(&Fault::new(Code::InvalidRequest, message, hint).with_evidence(evidence))
}

/// Returns the exit code for a command line that does not parse, or that asks for help.
pub(super) fn usage_code(error: &clap::Error) -> ExitCode {
    if error.use_stderr() { ExitCode::from(Kind::Usage.exit_code()) } else { ExitCode::SUCCESS }
}
