//! Answers one question for a status: with the last result if it is proven to hold, else with a new
//! one, and its proof where one is asked for.

use std::sync::Arc;

use crate::core::{Environment, Fault};
use crate::world::git::command::Git;
use crate::world::process::cancel::Cancel;
use crate::world::status::cache_entry::{Computed, Question};
use crate::world::status::proof::{Began, Proof};
use crate::world::status::query::{LIMIT, compute_status, place};

/// Returns the status of a worktree as it is now.
///
/// # Errors
/// As for [`compute_status`].
pub(in crate::world) fn answer(
    env: &Environment,
    question: &Question,
    cancel: &Cancel,
) -> Result<Computed, Fault> {
    let place = place(env)?;
    if let Some((status, proof)) = &question.proven
        && proof.holds(env, place)
    {
        let status = Arc::clone(status);
        return Ok(Computed { status, proof: Some(Arc::clone(proof)), is_proven: true });
    }
    let began = Began::now();
    let status = Arc::new(compute_status(env, question.since.as_ref(), cancel)?);
    let git = Git::exact(place.1, Some(place.0), None, cancel).within(LIMIT);
    let make = || Proof::of(env, place, &git, &status, began);
    let proof = question.wants_proof.then(make).flatten().map(Arc::new);
    Ok(Computed { status, proof, is_proven: false })
}
