//! A tour through every operation in a fixed order, so that each named point is reached however
//! chance has it. Each call may fail, because the daemon may be dead.

use crate::client::Stage;
use crate::ground::{make_dir, write};
use crate::trouble::Trouble;

/// Goes through everything, with names of its own.
pub(crate) fn run(stage: &Stage<'_>, number: u64) -> Result<(), Trouble> {
    let repo = stage.ground.repo();
    let repo = repo.to_string_lossy().into_owned();
    let name = |what: &str| format!("tour{number}-{what}");
    let (one, two, bad) = (name("one"), name("two"), format!("bad-tour{number}"));
    run_verb(stage, &["new", &one, "--repo", &repo])?;
    run_verb(stage, &["new", &bad, "--repo", &repo])?;
    run_verb(stage, &["new", &two, "--repo", &repo])?;
    run_verb(stage, &["rm", &two])?;
    run_verb(stage, &["exec", &one, "--", "true"])?;
    run_verb(stage, &["lease", &one, "--for", "1h"])?;
    removal_and_back(stage, &name("three"), &repo)?;
    // What looks like one of ours and is explained by nothing.
    make_dir(&stage.ground.data().join("worktrees").join(&two))?;
    run_verb(stage, &["sweep", "--apply"])?;
    drop(std::fs::remove_dir(stage.ground.data().join("worktrees").join(&two)));
    run_verb(stage, &["rm", &one, "--force"]).map(drop)
}

fn run_verb(stage: &Stage<'_>, args: &[&str]) -> Result<bool, Trouble> {
    if stage.is_over() {
        return Ok(false);
    }
    Ok(stage.verb(args)?.ok())
}

/// Everything that can happen after a removal.
fn removal_and_back(stage: &Stage<'_>, id: &str, repo: &str) -> Result<(), Trouble> {
    let place = stage.ground.place(id);
    if run_verb(stage, &["new", id, "--repo", repo])? {
        write(&place.join("target/debug/object"), "built\n")?;
        run_verb(stage, &["clean", id])?;
        run_verb(stage, &["clean", id, "--undo"])?;
        run_verb(stage, &["clean", id])?;
        drop(std::fs::write(place.join("notes"), "work that nothing else has\n"));
    }
    if run_verb(stage, &["rm", id, "--force"])? {
        // Something that is not ours stands in its place: the restore fails, and takes nothing.
        write(&place.join("foreign"), "not ours\n")?;
        run_verb(stage, &["restore", id])?;
        let folder = place.parent().unwrap_or(&place);
        drop(std::fs::remove_dir_all(folder));
    }
    run_verb(stage, &["restore", id])?;
    run_verb(stage, &["rm", id, "--force"])?;
    if run_verb(stage, &["restore", id, "--incarnation", "1"])? {
        run_verb(stage, &["rm", id, "--force"])?;
    }
    stage.model.trash_emptied();
    run_verb(stage, &["trash", "empty"])?;
    stage.model.trash_emptied();
    if run_verb(stage, &["restore", id])? {
        run_verb(stage, &["rm", id, "--force"])?;
    }
    // Refused while the unlink of the same remains is being repeated.
    for _ in 0..3 {
        if run_verb(stage, &["rescue", "drop", id, "--incarnation", "1"])? {
            break;
        }
    }
    Ok(())
}
