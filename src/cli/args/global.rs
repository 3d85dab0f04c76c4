//! The flags that every verb takes.

use std::path::PathBuf;

use clap::Args;

/// Flags that every verb takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Data directory of the daemon: log, worktrees and trash
    #[arg(long, global = true, env = "GROUNDSKEEPER_HOME", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Print one JSON object or array on stdout, everything else on stderr
    #[arg(long, global = true)]
    pub json: bool,
    /// Never prompt; use the safe default
    #[arg(long, global = true)]
    pub no_input: bool,
    /// Do not start a daemon if none is running
    #[arg(long, global = true)]
    pub no_autostart: bool,
    /// Print less
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Log more; give it twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}
