//! Arguments of `trash` and `rescue`: what is kept of removed environments.

use clap::Subcommand;
use clap_complete::ArgValueCandidates as Candidates;

use crate::cli::completion;

/// What to do with the trash.
#[derive(Debug, Subcommand)]
pub enum Trash {
    /// List the trash: removed environments, and files that `clean` moved
    Ls,
    /// Unlink the trash entries permanently
    Empty {
        /// Unlink only the entries of this environment
        #[arg(add = Candidates::new(completion::removed))]
        id: Option<String>,
        /// Also unlink entries that are the only copy of work; the work is listed, and lost
        #[arg(long, requires = "id")]
        lose: bool,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// What to do with rescues.
#[derive(Debug, Subcommand)]
pub enum Rescue {
    /// List the rescues
    Ls,
    /// Show the content of a rescue
    Show {
        /// Environment id
        #[arg(add = Candidates::new(completion::rescued))]
        id: String,
        /// Incarnation number [default: the last]
        #[arg(long, value_name = "N")]
        incarnation: Option<u32>,
    },
    /// Delete the ref of a rescue
    Drop {
        /// Environment id
        #[arg(add = Candidates::new(completion::rescued))]
        id: String,
        /// Incarnation number [default: the last]
        #[arg(long, value_name = "N")]
        incarnation: Option<u32>,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}
