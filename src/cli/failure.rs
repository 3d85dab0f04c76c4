//! Reports why the program ends without success: as text, as JSON on stdout, or as a line of the
//! log of a process that serves. It decides no exit code.

use std::ffi::OsString;

use clap::CommandFactory as _;

use crate::api::types::Problem;
use crate::cli::args::{Arguments, LogFormat, Logging, Verb};
use crate::cli::error::{CliError, asks_for_json, usage_problem};
use crate::cli::output::print_json;
use crate::cli::render;

/// Flag for the format of the log, and the variable in its place.
const FLAG: &str = "--log-format";
const VARIABLE: &str = "GROUNDSKEEPER_LOG_FORMAT";

/// Returns the format of the log, if the verb is that of a process that serves.
pub(super) fn log_format(verb: &Verb) -> Option<LogFormat> {
    match verb {
        Verb::Daemon { what: None, how, .. } => Some(how.logging),
        Verb::Server(wanted) | Verb::Up(wanted) => Some(wanted.logging),
        _ => None,
    }
    .map(|Logging { log_format }| log_format)
}

/// Reports the problem that ended a command.
pub(super) fn report(problem: &Problem, as_json: bool, log_format: Option<LogFormat>) {
    let Problem { code, message, causes, evidence, hint, .. } = problem;
    if as_json {
        print_json(&CliError::to_json(problem));
    }
    match log_format {
        // A reader of the log parses each line, the last one included.
        Some(LogFormat::Json) => in_log(|| {
            let (causes, evidence) = (lines(causes), lines(evidence));
            tracing::error!(code, causes, evidence, hint, "{message}");
        }),
        _ if as_json => {}
        _ => render::problem(problem),
    }
}

/// Reports a command line that does not parse.
pub(super) fn report_usage(error: &clap::Error, arguments: &[OsString]) {
    let variable = std::env::var_os(VARIABLE);
    let text = || {
        let text = error.render().to_string();
        text.strip_prefix("error: ").unwrap_or(&text).trim_end().to_owned()
    };
    if !error.use_stderr() {
        drop(error.print());
        return;
    }
    let as_json = asks_for_json(arguments.iter().cloned());
    if as_json {
        print_json(&CliError::to_json(&usage_problem(error)));
    }
    if wants_json_log(arguments.iter().cloned(), variable) {
        in_log(|| tracing::error!("{}", text()));
    } else if !as_json {
        drop(error.print());
    }
}

/// Runs `write` with a JSON log on stderr that has no filter: the reason for the end of a process
/// is written at every level of the log, and also before the log is started.
fn in_log(write: impl FnOnce()) {
    let log = tracing_subscriber::fmt().log_internal_errors(false).with_writer(std::io::stderr);
    let log = log.with_max_level(tracing::Level::ERROR).json().flatten_event(true).finish();
    tracing::subscriber::with_default(log, write);
}

/// Returns a list as the text of one field; an empty one has no field.
fn lines(list: &[String]) -> Option<String> {
    (!list.is_empty()).then(|| list.join("\n"))
}

/// Reports whether a command line asks for a log in JSON, also if it does not parse: the format is
/// needed to say so. A verb without a log has no such flag.
fn wants_json_log(arguments: impl Iterator<Item = OsString>, variable: Option<OsString>) -> bool {
    let definition = Arguments::command();
    let mut rest = arguments.skip(1);
    let verb = rest.find_map(|word| definition.find_subcommand(&word));
    if !verb.is_some_and(|verb| verb.get_arguments().any(|a| a.get_id() == "log_format")) {
        return false;
    }
    let mut format = variable;
    while let Some(word) = rest.next() {
        let Some(word) = word.to_str() else { continue };
        if word == FLAG {
            format = rest.next();
        } else if let Some(value) = word.strip_prefix(FLAG).and_then(|w| w.strip_prefix('=')) {
            format = Some(value.into());
        }
    }
    format.is_some_and(|format| format == "json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_format_is_found_in_broken_command_line() {
        let wants = |line: &str, variable: Option<&str>| {
            let words = line.split(' ').map(OsString::from);
            wants_json_log(words, variable.map(OsString::from))
        };
        for line in [
            "gk daemon --log-format json --bad",
            "gk daemon --bad --log-format=json",
            "gk --data-dir /x up --listen nowhere --log-format json",
            "gk server --log-format text --log-format json",
        ] {
            assert!(wants(line, None) && wants(line, Some("text")), "{line}");
        }
        assert!(wants("gk daemon --bad", Some("json")));
        for line in ["gk daemon --bad", "gk daemon --log-format text", "gk ls --log-format json"] {
            assert!(!wants(line, None), "{line}");
        }
        assert!(!wants("gk ls --bad", Some("json")), "a client has no log");
        assert!(!wants("gk daemon --log-format text", Some("json")), "the flag comes first");
    }
}
