//! Arguments for the log of a process that serves.

use clap::Args;

/// Flags for the log of a daemon or a server.
#[derive(Debug, Clone, Copy, Args)]
pub struct Logging {
    /// Format of the log on stderr: text, or json for one object a line
    #[arg(long, value_name = "FORM", default_value = "text", env = "GROUNDSKEEPER_LOG_FORMAT")]
    pub log_format: LogFormat,
}

/// Format of the log on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line, with the spans that the line belongs to.
    Json,
}

impl std::str::FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            // An empty variable counts as one that is not set.
            "text" | "" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("must be text or json".to_owned()),
        }
    }
}
