//! Finds commits that no branch, tag or remote-tracking ref reaches.
//!
//! One unreadable ref (empty, garbage, at a missing object) ends a `rev-list` over all refs. Then
//! the query is repeated with the readable refs named one by one. Fewer refs hold fewer commits, so
//! the repeated query may report too many commits as unreachable, never too few.

use std::collections::BTreeSet;

use crate::failpoint::guard;
use crate::world::git::command::Git;
use crate::world::git::error::Error;

/// Bound on the objects that are named in one call when git refuses the refs as a whole.
const NAMED_MAX: usize = 20_000;
const KINDS: [&str; 3] = ["refs/heads", "refs/tags", "refs/remotes"];

/// Counts commits of `tips` that are on no branch outside `but`, on no tag and on no remote.
///
/// # Errors
/// When git cannot answer: then it is unknown what would be lost.
pub(in crate::world) fn count_alone(
    git: &Git<'_>,
    tips: &[&str],
    but: &[&str],
) -> Result<u64, Error> {
    if !guard::stands("unpushed") {
        return Ok(0);
    }
    let args = ["rev-list", "--count"];
    let text = ask(git, &args, tips, &[], but)?;
    let text = String::from_utf8_lossy(&text).trim_end().to_owned();
    text.parse().map_err(|_| Error::NotANumber { what: "git rev-list --count", text })
}

/// Returns those of `commits` that no branch, tag, remote or `known` commit reaches. Missing
/// objects are left out.
///
/// # Errors
/// As [`count_alone`].
pub(in crate::world) fn list_alone(
    git: &Git<'_>,
    commits: &[&str],
    known: &[&str],
) -> Result<Vec<String>, Error> {
    let args = ["rev-list", "--no-walk=unsorted", "--ignore-missing"];
    let listed = ask(git, &args, commits, known, &[])?;
    Ok(String::from_utf8_lossy(&listed).lines().map(str::to_owned).collect())
}

/// Returns those of `commits` that no ref of the repository reaches, of whatever kind. The HEADs of
/// other worktrees are no refs. Missing objects are left out.
///
/// # Errors
/// When git cannot answer, such as for one unreadable ref.
pub(in crate::world) fn list_unreferenced(
    git: &Git<'_>,
    commits: &[&str],
) -> Result<Vec<String>, Error> {
    if commits.is_empty() {
        return Ok(Vec::new());
    }
    let args = ["rev-list", "--no-walk=unsorted", "--ignore-missing"];
    let refs = ["--not", "--single-worktree", "--all"];
    let listed = git.output(args.iter().chain(commits).chain(&refs).copied())?;
    Ok(String::from_utf8_lossy(&listed).lines().map(str::to_owned).collect())
}

fn ask(
    git: &Git<'_>,
    args: &[&str],
    tips: &[&str],
    known: &[&str],
    but: &[&str],
) -> Result<Vec<u8>, Error> {
    let exclude: Vec<String> = but.iter().map(|branch| format!("--exclude={branch}")).collect();
    let all = args.iter().chain(tips).copied().chain(["--not"]).chain(known.iter().copied());
    let kinds = ["--branches", "--tags", "--remotes"];
    match git.output(all.clone().chain(exclude.iter().map(String::as_str)).chain(kinds)) {
        Err(error) if git.cancel().is_cancelled() || !error.is_refusal() => Err(error),
        Err(error) if !guard::stands("bad-refs") => Err(error),
        Err(error) => {
            let others = readable(git, but)?;
            if others.len() > NAMED_MAX {
                return Err(error);
            }
            let named =
                args.iter().copied().chain(["--ignore-missing"]).chain(all.skip(args.len()));
            git.output(named.chain(others.iter().map(String::as_str)))
        }
        Ok(listed) => Ok(listed),
    }
}

/// Returns the objects of the branches (except `but`), tags and remote-tracking refs
/// that git can read.
fn readable(git: &Git<'_>, but: &[&str]) -> Result<BTreeSet<String>, Error> {
    let listed =
        git.output(["for-each-ref", "--format=%(objectname) %(refname)"].into_iter().chain(KINDS))?;
    let listed = String::from_utf8_lossy(&listed).into_owned();
    let is_other = |name: &str| name.strip_prefix("refs/heads/").is_none_or(|b| !but.contains(&b));
    let others = listed.lines().filter_map(|line| line.split_once(' '));
    Ok(others.filter(|(_, name)| is_other(name)).map(|(object, _)| object.to_owned()).collect())
}
