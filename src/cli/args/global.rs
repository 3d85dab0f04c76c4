//! The flags that every verb takes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// When text has colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Color {
    /// At a terminal, unless `NO_COLOR` is set
    #[default]
    Auto,
    /// Also in a pipe
    Always,
    /// Nowhere
    Never,
}

/// Heading of these flags in the help of a verb.
const HEADING: &str = "Global options";

/// Flags that every verb takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Data directory of the daemon: log, worktrees and trash
    #[arg(long, global = true, help_heading = HEADING, env = "GROUNDSKEEPER_HOME", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Print one JSON object or array on stdout, everything else on stderr
    #[arg(long, global = true, help_heading = HEADING)]
    pub json: bool,
    /// Never prompt; use the safe default
    #[arg(long, global = true, help_heading = HEADING)]
    pub no_input: bool,
    /// Do not start a daemon if none is running
    #[arg(long, global = true, help_heading = HEADING)]
    pub no_autostart: bool,
    /// Colours: auto (at a terminal, unless `NO_COLOR` is set), always or never
    #[arg(long, global = true, help_heading = HEADING, value_enum, default_value_t, value_name = "WHEN")]
    pub color: Color,
    /// Print less
    #[arg(short, long, global = true, help_heading = HEADING)]
    pub quiet: bool,
    /// Log more; give it twice for everything
    #[arg(short, long, global = true, help_heading = HEADING, action = clap::ArgAction::Count)]
    pub verbose: u8,
}
