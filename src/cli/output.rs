//! Output of commands: exit code, text or JSON on stdout, log on stderr, and the limit on waiting.

use std::process::ExitCode;

use serde::Serialize;
#[cfg(feature = "daemon")]
use tracing_subscriber::filter::{LevelFilter, Targets};
#[cfg(feature = "daemon")]
use tracing_subscriber::layer::SubscriberExt as _;
#[cfg(feature = "daemon")]
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::cli::args::Global;
#[cfg(feature = "daemon")]
use crate::cli::args::{LogFormat, Logging};
use crate::cli::error::CliError;
use crate::cli::render;

pub(super) type CommandResult = Result<ExitCode, CliError>;

#[cfg(feature = "daemon")]
pub(super) const NOTHING: Option<&()> = None;

/// Limit of the wait for an operation, in seconds. It is this long because hooks may take long.
#[cfg(feature = "daemon")]
pub(super) const WAIT_SECONDS: u64 = 24 * 3_600;

pub(super) fn print_json(value: &impl Serialize) {
    render::out(&format!("{}\n", serde_json::to_string(value).unwrap_or_default()));
}

#[expect(clippy::unnecessary_wraps, reason = "every verb ends with it")]
pub(super) fn show_one(global: &Global, value: &impl Serialize, text: &str) -> CommandResult {
    if global.json {
        print_json(value);
    } else {
        render::out(text);
    }
    Ok(ExitCode::SUCCESS)
}

/// Starts the log of a process that serves. `GROUNDSKEEPER_LOG` replaces the level that the flags
/// ask for.
#[cfg(feature = "daemon")]
pub(super) fn log_to_stderr(global: &Global, logging: Logging) {
    let default = ["groundskeeper=info", "groundskeeper=debug", "debug"];
    let level = default[usize::from(global.verbose).min(2)];
    let wanted = std::env::var_os("GROUNDSKEEPER_LOG").unwrap_or_default();
    let wanted = wanted.to_string_lossy();
    let parsed = wanted.parse::<Targets>().map_err(|e| e.to_string());
    let (filter, refused) = match parsed {
        Ok(filter) if !wanted.trim().is_empty() => (filter, None),
        parsed => (level.parse().unwrap_or_default(), parsed.err()),
    };
    // A line that cannot be written is lost. Reporting that on stderr would end the thread when the
    // reader of stderr has gone.
    let builder = tracing_subscriber::fmt().log_internal_errors(false);
    let builder = builder.with_max_level(LevelFilter::TRACE).with_writer(std::io::stderr);
    match logging.log_format {
        LogFormat::Text => {
            let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(is_terminal).finish().with(filter).init();
        }
        // The innermost span is on each line, so that a line alone leads to its record.
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_current_span(true);
            builder.finish().with(filter).init();
        }
    }
    if let Some(why) = refused {
        tracing::warn!(
            value = %wanted,
            %why,
            "GROUNDSKEEPER_LOG is not understood, so {level} is logged; \
             write LEVEL or TARGET=LEVEL, separated by commas"
        );
    }
}

/// Percent-encodes a path segment or query value of a URL.
#[cfg(feature = "daemon")]
pub(super) fn encode(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                char::from(b).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}
