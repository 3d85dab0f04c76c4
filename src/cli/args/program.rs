//! The program as a whole, with the examples at the end of its help.

use clap::Parser;

use super::global::Global;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_definition_passes_debug_assert() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }
}
