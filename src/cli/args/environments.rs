//! Arguments that begin environments, and that end those without use: `new` and `gc`.

use std::path::PathBuf;

use clap::Args;

use super::duration::duration;

/// Flags of the environment to create.
#[derive(Debug, Args)]
pub struct New {
    /// Environment id [default: a generated id]
    pub id: Option<String>,
    /// Directory in the repository
    #[arg(long, default_value = ".", value_name = "PATH")]
    pub repo: PathBuf,
    /// Branch, tag, commit or remote branch to start from [default: the default branch]
    #[arg(long, value_name = "REV")]
    pub base: Option<String>,
    /// Existing branch to check out [default: a new branch gk/ID]
    #[arg(long, value_name = "NAME", conflicts_with = "base")]
    pub branch: Option<String>,
    /// Fetch the base from the remote first
    #[arg(long)]
    pub fetch: bool,
    /// Keep the worktree when the setup hook fails
    #[arg(long)]
    pub keep_failed: bool,
    /// Do not run the setup hook
    #[arg(long)]
    pub no_setup: bool,
}

/// Conditions for the removal of unused environments.
#[derive(Debug, Args)]
pub struct Gc {
    /// Only environments created longer ago than this
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub age: Option<u64>,
    /// Only environments whose content has not changed for this long
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub idle: Option<u64>,
    /// Only environments without work at risk; this always applies, with or without the flag
    #[arg(long)]
    pub merged: bool,
    /// Remove the oldest first, unlink their trash, and stop when so many gigabytes are free
    #[arg(long, value_name = "GB")]
    pub free: Option<u64>,
    /// List what would be removed, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}
