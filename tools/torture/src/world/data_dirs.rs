//! What happens to a data directory while its daemon is down: a restart, a log that is saved and
//! put back, a directory that is moved or copied. Everything is looked at after the next start.

use super::run::{rest, settle, start, unchanged};
use super::scene::Scene;
use super::tokens::Harm;
use super::{invariants, step, verbs};
use crate::trouble::{Trouble, failed};

pub(super) fn restart(
    scene: &mut Scene<'_>,
    data: usize,
    meanwhile: impl FnOnce(&mut Scene<'_>) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    if let Err(what) = scene.place.stop(data) {
        scene.found("stop", what);
    }
    scene.untouched.clear();
    meanwhile(scene)?;
    if start(scene, data)? {
        rest(scene, data)?;
    }
    settle(scene, &Harm::Nothing, "a restart", false)
}

pub(super) fn save_log(scene: &mut Scene<'_>, data: usize) -> Result<(), Trouble> {
    restart(scene, data, |scene| {
        let (from, to) =
            (scene.place.data(data).join("log.redb"), scene.place.path(format!("saved-{data}")));
        std::fs::copy(&from, &to).map_err(failed("copy", &from))?;
        if let Some(slot) = scene.saved.get_mut(data) {
            *slot = Some(to);
        }
        Ok(())
    })
}

pub(super) fn put_back(scene: &mut Scene<'_>, data: usize) -> Result<(), Trouble> {
    let Some(saved) = scene.saved.get(data).cloned().flatten() else { return Ok(()) };
    restart(scene, data, |scene| {
        let to = scene.place.data(data).join("log.redb");
        std::fs::copy(&saved, &to).map_err(failed("copy", &saved))?;
        if let Some(back) = scene.put_back.get_mut(data) {
            *back = true;
        }
        Ok(())
    })
}

pub(super) fn move_data(scene: &mut Scene<'_>, data: usize) -> Result<(), Trouble> {
    restart(scene, data, |scene| {
        let number = scene.next();
        let from = scene.place.data(data);
        let to = scene.place.path(format!("data-moved-{number}"));
        std::fs::rename(&from, &to).map_err(failed("rename", &from))?;
        scene.place.data_is_at(data, to.clone());
        scene.ledger.moved(&from, &to);
        for (_, env) in scene.envs.iter_mut().filter(|(key, _)| key.0 == data) {
            if let Ok(rest) = env.path.strip_prefix(&from) {
                env.path = to.join(rest);
            }
        }
        let planted = std::mem::take(&mut scene.planted);
        let moved = |path: std::path::PathBuf| match path.strip_prefix(&from) {
            Ok(rest) => to.join(rest),
            Err(_) => path,
        };
        scene.planted = planted.into_iter().map(moved).collect();
        Ok(())
    })
}

/// A copy of the first data directory is put to use beside it: nothing of the original's is its
/// own.
pub(super) fn copy_data(scene: &mut Scene<'_>) -> Result<(), Trouble> {
    if scene.there[2] {
        return Ok(());
    }
    restart(scene, 0, |scene| {
        let (from, to) = (scene.place.data(0), scene.place.data(2));
        let (from, to) = (from.to_string_lossy().into_owned(), to.to_string_lossy().into_owned());
        let done = scene.place.tool("cp", scene.place.root(), &["-a", &from, &to])?;
        if !done.ok() {
            return Err(Trouble::new(format!("cp: {}", done.err.trim())));
        }
        Ok(())
    })?;
    let pictured = invariants::picture(scene)?;
    if !start(scene, 2)? {
        return Ok(());
    }
    rest(scene, 2)?;
    for name in 0..step::NAMES {
        let id = scene.id((0, name));
        for args in [&["rm", id.as_str(), "--force"][..], &["restore", &id], &["trash", "empty"]] {
            let answer = scene.place.gk(2, args)?;
            verbs::bound_and_words(scene, &answer);
        }
    }
    let swept = scene.place.gk(2, &["sweep", "--apply"])?;
    verbs::bound_and_words(scene, &swept);
    rest(scene, 2)?;
    settle(scene, &Harm::Nothing, "verbs on a copy of the data directory", false)?;
    unchanged(scene, (2, &[]), &pictured)
}
