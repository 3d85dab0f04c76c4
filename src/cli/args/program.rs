//! The program as a whole: the flags that every verb takes, and the examples at the end of its
//! help.

use std::path::PathBuf;

use clap::{Args, Parser};

use super::verbs::Verb;

const EXIT_CODES: &str = "\
Exit codes: 0 success, 1 refused by a rule, 2 fault, 3 not found, 4 busy, 64 usage.

Examples:
  groundskeeper new demo                 create an isolated worktree of the current repository
  cd $(groundskeeper new)                do the same with a generated id
  groundskeeper new fix --base v1.2      start from a tag
  groundskeeper rm demo                  remove it; refused if work would be lost
  groundskeeper restore demo             bring it back
  groundskeeper exec demo -- make test   run a command in it; the command ends with it
  groundskeeper events --follow --json   print every event as it happens";

/// Life cycle of git worktree environments for coding agents.
#[derive(Debug, Parser)]
#[command(name = "groundskeeper", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Arguments {
    /// Flags that every verb takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_definition_passes_debug_assert() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }
}
