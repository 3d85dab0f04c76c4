//! The error of a command, and the exit code that it leads to.

use std::process::ExitCode;

use serde_json::json;

use super::args::Global;
use super::render;
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
    /// Shows the error as the flags ask for, and returns the exit code of its kind.
    pub(super) fn report(&self, global: &Global) -> ExitCode {
        let problem = self.0.as_ref();
        if global.json {
            let Problem { code, message, causes, evidence, hint, .. } = problem;
            render::out(&format!(
                "{}\n",
                json!({ "error": {
                    "code": code, "message": message, "causes": causes,
                    "evidence": evidence, "hint": hint,
                }})
            ));
        } else {
            render::problem(problem);
        }
        ExitCode::from(exit_code(&problem.code))
    }
}

fn exit_code(code: &str) -> u8 {
    let known = Code::ALL.iter().find(|c| c.as_str() == code);
    known.map_or(Kind::Fault, |c| c.kind()).exit_code()
}

/// Shows what is wrong with the command line, or the help that it asks for.
pub(super) fn usage(error: &clap::Error) -> ExitCode {
    drop(error.print());
    let is_usage = error.use_stderr();
    if is_usage { ExitCode::from(Kind::Usage.exit_code()) } else { ExitCode::SUCCESS }
}
