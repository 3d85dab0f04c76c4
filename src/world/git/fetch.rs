//! Fetches one branch so that a killed git leaves no lock on the user's refs: git downloads the
//! objects and sets a ref of ours on them; the remote-tracking ref is moved here.
//!
//! The configured refspecs determine to which remote a tracking ref belongs, not its name. Only
//! that one ref changes; nothing is pruned, and no tag is fetched.

use std::path::Path;
use std::time::Duration;

use crate::core::Fault;
use crate::world::fs::names::Names;
use crate::world::git::command::Git;
use crate::world::git::error::Error;
use crate::world::git::ref_changes::{self, Change};
use crate::world::git::refs;

/// Result of a fetch.
pub(in crate::world) struct Fetched {
    /// Commit to which the fetched branch points.
    pub(in crate::world) commit: String,
    /// Reason why the remote-tracking ref could not be moved there, if so.
    pub(in crate::world) not_moved: Option<String>,
}

/// Fetches the branch that a remote-tracking ref follows, and moves that ref.
///
/// # Errors
/// When no remote has such a branch configured; the error of git; the time limit.
pub(in crate::world) fn fetch(
    git: &Git<'_>,
    common: &Path,
    names: Names<'_>,
    tracking: &str,
    limit: Duration,
) -> Result<Fetched, Error> {
    let (remote, branch) = source_of(git, tracking)?;
    let own = names.fetch();
    ref_changes::break_stale(common, &own);
    // The ref of an interrupted attempt may be stale, so the fetch starts anew.
    let change = Change::of(git, common, &own);
    if refs::exists(common, &own) {
        change.delete(None)?;
    }
    let refspec = format!("+{branch}:{own}");
    // Automatic maintenance would outlive this call and take locks in the user's repository.
    let settings = ["gc.auto=0", "maintenance.auto=false", "fetch.writeCommitGraph=false"];
    let settings = settings.into_iter().flat_map(|setting| ["-c", setting]);
    let args = ["fetch", "--quiet", "--no-tags", "--no-recurse-submodules"];
    // The empty refmap keeps git from updating the tracking ref itself.
    let args = args.into_iter().chain(["--no-write-fetch-head", "--refmap=", "--no-prune"]);
    let args = settings.chain(args).chain(["--", remote.as_str(), refspec.as_str()]);
    if let Err(error) = git.clone().within(limit).output(args) {
        // git was stopped after it had created the ref: no other program would ever delete it.
        if refs::exists(common, &own) && !git.cancel().is_cancelled() {
            change.delete(None)?;
        }
        return Err(error);
    }
    let object = git.line(["rev-parse", "--verify", &own])?;
    let commit = git.line(["rev-parse", "--verify", &format!("{own}^{{commit}}")])?;
    let moved = Change::of(git, common, tracking).advance(&object);
    let not_moved = moved.err().map(|error| {
        let fault = Fault::from(error);
        format!("{tracking} was not updated: {fault}")
    });
    change.delete(Some(&object))?;
    Ok(Fetched { commit, not_moved })
}

/// Returns the remote that a tracking ref belongs to, and the branch there.
fn source_of(git: &Git<'_>, tracking: &str) -> Result<(String, String), Error> {
    let listed = git.run(["config", "-z", "--get-regexp", r"^remote\..*\.fetch$"])?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let found = listed.split('\0').filter_map(|entry| entry.split_once('\n'));
    let mut found = found.filter_map(|(key, refspec)| {
        let remote = key.strip_prefix("remote.")?.strip_suffix(".fetch")?;
        Some((remote.to_owned(), source(refspec, tracking)?))
    });
    found.next().ok_or(Error::NoUpstream)
}

/// Returns the source that a refspec maps to this ref; `None` when it maps nothing to it.
fn source(refspec: &str, tracking: &str) -> Option<String> {
    let (from, to) = refspec.strip_prefix('+').unwrap_or(refspec).split_once(':')?;
    if !to.contains('*') {
        return (to == tracking).then(|| from.to_owned());
    }
    let (before, after) = to.split_once('*')?;
    let middle = tracking.strip_prefix(before)?.strip_suffix(after)?;
    (!middle.is_empty()).then(|| from.replacen('*', middle, 1))
}

#[cfg(test)]
mod tests {
    use super::source;

    #[test]
    fn refspec_maps_tracking_ref_to_source() {
        for (refspec, tracking, from) in [
            ("+refs/heads/*:refs/remotes/up/stream/*", "refs/remotes/up/stream/a/b", "a/b"),
            ("refs/heads/main:refs/remotes/o/main", "refs/remotes/o/main", "main"),
            ("+refs/heads/x/*:refs/remotes/o/y-*", "refs/remotes/o/y-1", "x/1"),
        ] {
            assert_eq!(source(refspec, tracking), Some(format!("refs/heads/{from}")), "{refspec}");
        }
        for refspec in ["^refs/heads/x", "refs/heads/*", "+refs/heads/*:refs/remotes/p/*"] {
            assert_eq!(source(refspec, "refs/remotes/o/main"), None, "{refspec}");
        }
        assert_eq!(
            source("+refs/*:refs/*", "refs/remotes/o/main"),
            Some("refs/remotes/o/main".into())
        );
    }
}
