//! Finds out whether a fold that cannot be read is damaged, or git only failed. Changes nothing.

use crate::world::git::command::Git;
use crate::world::git::error::Error;
use crate::world::git::fold::{CHAIN, CHAIN_SUBJECT, read_commit};

/// Returns whether git certainly lacks an object of the fold that begins with this commit.
///
/// # Errors
/// Those of git: then nothing is certain.
pub(in crate::world) fn lacks_objects(git: &Git<'_>, tip: &str) -> Result<bool, Error> {
    let mut at = tip.to_owned();
    for _ in 0..=CHAIN {
        if is_missing(git, &at)? {
            return Ok(true);
        }
        let Some(commit) = read_commit(git, &at)? else { return Ok(false) };
        if commit.subject() != CHAIN_SUBJECT {
            for group in &commit.parents {
                if is_missing(git, group)? {
                    return Ok(true);
                }
            }
            return Ok(false);
        }
        let Some(next) = commit.parents.into_iter().next() else { return Ok(false) };
        at = next;
    }
    Ok(false)
}

/// Returns whether there is no object of this id. An exit code of 1 says so; another one says that
/// git failed.
fn is_missing(git: &Git<'_>, id: &str) -> Result<bool, Error> {
    Ok(git.run(["cat-file", "-e", id])?.status.code() == Some(1))
}
