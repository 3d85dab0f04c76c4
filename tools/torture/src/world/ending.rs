//! The end of a history: every environment can still be removed, first with everything in the way
//! that users left there, then without; after that nothing of ours is left in the repository, and
//! every token is where it is promised to be.

use super::obstacles;
use super::run::{rest, settle, start};
use super::scene::Scene;
use super::tokens::Harm;
use super::verbs;
use crate::trouble::Trouble;

/// Ends it.
pub(crate) fn end(scene: &mut Scene<'_>) -> Result<(), Trouble> {
    for data in scene.datas() {
        if !scene.place.runs(data) && !start(scene, data)? {
            return Ok(());
        }
    }
    let mut stubborn = Vec::new();
    for (data, id) in living(scene)? {
        if !remove(scene, data, &id)?.0 {
            stubborn.push((data, id));
        }
    }
    for data in scene.datas() {
        rest(scene, data)?;
    }
    settle(scene, &Harm::Nothing, "the removals at the end", false)?;
    obstacles::mend(scene)?;
    for (data, id) in stubborn {
        let (gone, printed) = remove(scene, data, &id)?;
        if !gone {
            scene.found("removal", format!("{id} of {data} cannot be removed: {printed}"));
        }
    }
    for data in scene.datas() {
        rest(scene, data)?;
    }
    settle(scene, &Harm::Nothing, "the removals at the end", false)?;
    for (data, id) in living(scene)? {
        if !scene.put_back[data] {
            scene.found("removal", format!("{id} of {data} lives after it was removed"));
        }
    }
    registrations(scene)
}

/// Every environment that a daemon lists.
fn living(scene: &mut Scene<'_>) -> Result<Vec<(usize, String)>, Trouble> {
    let mut all = Vec::new();
    for data in scene.datas() {
        let listed = scene.place.gk(data, &["ls"])?;
        verbs::bound_and_words(scene, &listed);
        let ids = listed.json.as_array().into_iter().flatten();
        all.extend(ids.filter_map(|env| Some((data, env["id"].as_str()?.to_owned()))));
    }
    Ok(all)
}

/// Removes one; where nothing can be saved, without saving. True when it is gone.
fn remove(scene: &mut Scene<'_>, data: usize, id: &str) -> Result<(bool, String), Trouble> {
    let forced = scene.place.gk(data, &["rm", id, "--force"])?;
    verbs::bound_and_words(scene, &forced);
    // A life that a log which was put back does not know is not its own to remove.
    let foreign = scene.put_back[data] && forced.json["error"]["code"] == "not_ours";
    if forced.ok() || foreign {
        return Ok((true, String::new()));
    }
    let without = scene.place.gk(data, &["rm", id, "--force", "--no-rescue"])?;
    verbs::bound_and_words(scene, &without);
    Ok((without.ok(), format!("{}; then {}", forced.printed(), without.printed())))
}

/// Sweeps where a removal has named what it left because its repository was away.
fn sweep_what_is_named(scene: &mut Scene<'_>) -> Result<(), Trouble> {
    for data in scene.datas() {
        let listed = scene.place.gk(data, &["ls", "--all"])?;
        let mut all = listed.json.as_array().into_iter().flatten();
        let names = |env: &serde_json::Value| {
            let mut left = env["leftovers"].as_array().into_iter().flatten();
            left.any(|line| line.as_str().is_some_and(|line| line.contains("sweep --apply")))
        };
        if all.any(names) {
            let swept = scene.place.gk(data, &["sweep", "--apply"])?;
            verbs::bound_and_words(scene, &swept);
        }
    }
    Ok(())
}

/// git knows no worktree any more that a daemon of ours could have made.
fn registrations(scene: &mut Scene<'_>) -> Result<(), Trouble> {
    sweep_what_is_named(scene)?;
    let common = scene.common();
    let listed = scene.place.git(&common, &["worktree", "list", "--porcelain", "-z"])?.out;
    // A log that was put back does not know what began after it, and a user's renames have made
    // others of ours.
    if scene.put_back.iter().any(|back| *back) {
        return Ok(());
    }
    for line in listed.split('\0') {
        let Some(path) = line.strip_prefix("worktree ").map(std::path::PathBuf::from) else {
            continue;
        };
        let ours = [0, 1].iter().any(|data| path.starts_with(scene.place.data(*data)));
        if ours {
            scene.found("removal", format!("a registration of {} is left", path.display()));
        }
    }
    Ok(())
}
