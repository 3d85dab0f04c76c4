//! Arguments that begin environments, and that end them: `new`, `rm` and `gc`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use clap_complete::ArgValueCandidates as Candidates;

use super::duration::duration;
use crate::cli::completion;

/// Flags of the environment to create.
#[derive(Debug, Args)]
pub struct New {
    /// Environment id [default: a generated id]; of `feature/x` the id is feature-x, and the new
    /// branch is feature/x
    pub id: Option<String>,
    /// Directory in the repository
    #[arg(long, default_value = ".", value_name = "PATH")]
    pub repo: PathBuf,
    /// Branch, tag, commit or remote branch to start from [default: the default branch]
    #[arg(long, value_name = "REV", add = Candidates::new(completion::revisions))]
    pub base: Option<String>,
    /// Existing branch to check out [default: a new branch gk/ID]
    #[arg(long, value_name = "NAME", conflicts_with = "base",
        add = Candidates::new(completion::branches))]
    pub branch: Option<String>,
    /// Name of the new branch [default: gk/ID]
    #[arg(long, short = 'b', value_name = "NAME", conflicts_with = "branch")]
    pub new_branch: Option<String>,
    /// Fetch the base from the remote first
    #[arg(long)]
    pub fetch: bool,
    /// Keep the worktree when the setup hook fails
    #[arg(long)]
    pub keep_failed: bool,
    /// Do not run the setup hook
    #[arg(long)]
    pub no_setup: bool,
    /// Start this program with the path, such as an editor, when it is ready
    #[arg(long, value_name = "PROGRAM")]
    pub open: Option<OsString>,
    /// Run this program in it when it is ready, as `exec` does; its arguments follow after `--`
    #[arg(long, short = 'x', value_name = "PROGRAM", conflicts_with = "open")]
    pub exec: Option<OsString>,
    /// Arguments of that program
    #[arg(last = true, requires = "exec", value_name = "ARGUMENT")]
    pub arguments: Vec<OsString>,
}

/// What to remove, and how.
#[derive(Debug, Args)]
pub struct Remove {
    /// Environment ids; `.` for where you stand
    #[arg(required = true, value_name = "ID", add = Candidates::new(completion::ids))]
    pub ids: Vec<String>,
    /// Move work at risk to the trash with it, and break leases
    #[arg(long)]
    pub force: bool,
    /// Branch policy: keep, delete-if-merged, delete [default: as configured]
    #[arg(long, value_name = "POLICY", value_parser = ["keep", "delete-if-merged", "delete"])]
    pub branch: Option<String>,
    /// Do not run the teardown hook
    #[arg(long)]
    pub no_teardown: bool,
    /// Also end processes that only have their working directory or files open there: shells,
    /// editors
    #[arg(long)]
    pub end_bystanders: bool,
    /// Save work in the trash only, without a rescue ref: for a disk too full for one
    #[arg(long, requires = "force")]
    pub no_rescue: bool,
    /// Show the work at risk and the users of the environment, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Succeed if there is no such environment
    #[arg(long)]
    pub if_exists: bool,
}

/// Conditions for the removal of unused environments.
#[derive(Debug, Clone, Args)]
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
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}
