//! Makes a local branch of one that only a remote has, as `git switch` does. It belongs to the user
//! and not to groundskeeper: no removal deletes it.

use std::path::Path;

use crate::cli::args::Global;
use crate::cli::render;
use crate::core::{Code, Fault};
use crate::world::fs::paths;
use crate::world::git::command::Git;
use crate::world::process::cancel::Cancel;

/// Start of the refs of remotes.
const REMOTES: &str = "refs/remotes/";

/// Returns the local branch that a name stands for: the branch of that name, or a new one that
/// tracks the only remote branch of that name. Without either, the name itself, which is refused
/// then by what needs the branch.
///
/// # Errors
/// If git fails, or a local branch of that name exists and tracks another one.
pub(super) fn local_branch(global: &Global, repo: &Path, wanted: &str) -> Result<String, Fault> {
    let cancel = Cancel::new().map_err(paths::failed("run git in", repo))?;
    let git = Git::at(repo, None, &cancel);
    let remotes = git.line(["remote"])?;
    let mut patterns = vec![format!("refs/heads/{wanted}"), format!("{REMOTES}{wanted}")];
    // An asterisk would not match the slash that a remote's name may have.
    patterns.extend(remotes.lines().map(|remote| format!("{REMOTES}{remote}/{wanted}")));
    let list = ["for-each-ref".to_owned(), "--format=%(refname)".to_owned()];
    let found = git.line(list.iter().chain(&patterns))?;
    if found.lines().any(|found| found == format!("refs/heads/{wanted}")) {
        return Ok(wanted.to_owned());
    }
    let of_remote = |name: &str| {
        let name = name.strip_prefix(REMOTES)?;
        let inside = |remote: &str| name.strip_prefix(remote)?.strip_prefix('/').map(str::to_owned);
        // A remote's name may hold a slash itself; the longest that fits is meant.
        let local = remotes.lines().filter_map(inside).min_by_key(String::len)?;
        Some((local, name.to_owned()))
    };
    let named = found.lines().filter_map(of_remote);
    let fits = |(local, name): &(String, String)| name == wanted || local == wanted;
    let candidates: Vec<(String, String)> = named.filter(fits).collect();
    let whole = candidates.iter().find(|(_, name)| name == wanted);
    let only = if let [only] = candidates.as_slice() { Some(only) } else { None };
    let Some((local, remote)) = whole.or(only) else { return Ok(wanted.to_owned()) };
    let format = "--format=%(refname) %(upstream)";
    let existing = git.line(["for-each-ref", format, &format!("refs/heads/{local}")])?;
    // The same again succeeds and changes nothing.
    if existing.lines().any(|line| line == format!("refs/heads/{local} {REMOTES}{remote}")) {
        return Ok(local.clone());
    }
    // A pattern without an asterisk also fits what lies below it.
    if existing.lines().any(|line| line.starts_with(&format!("refs/heads/{local} "))) {
        let message = format!("branch {local} exists already, so {remote} was not checked out");
        let hint = format!("pass `--branch {local}` to check it out as it is");
        return Err(Fault::new(Code::BranchExists, message, hint));
    }
    git.output(["branch", "--track", "--", local, remote])?;
    if !global.quiet {
        render::note(&format!("branch {local} is new and tracks {remote}"));
    }
    Ok(local.clone())
}
