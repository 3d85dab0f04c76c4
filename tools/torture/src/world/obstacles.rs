//! What users leave in the way, and take back: locks of processes that are long gone, a repository
//! that is elsewhere, a filter that is broken.

use std::path::{Path, PathBuf};

use super::acts::rename_back;
use super::scene::Scene;
use super::step::{Lock, UserAction};
use crate::ground::write;
use crate::trouble::Trouble;

pub(super) fn leave_lock(
    scene: &mut Scene<'_>,
    action: &UserAction,
    lock: Lock,
) -> Result<(), Trouble> {
    let key = (action.data, action.name);
    let common = scene.common();
    let admin = scene.worktree(key).and_then(|at| Scene::admin(&at));
    let path = match lock {
        Lock::Index => admin.map(|admin| admin.join("index.lock")),
        Lock::Head => admin.map(|admin| admin.join("HEAD.lock")),
        Lock::PackedRefs if scene.world.reftable => Some(common.join("reftable/tables.list.lock")),
        Lock::PackedRefs => Some(common.join("packed-refs.lock")),
        Lock::Branch => scene.branch_of(key).map(|name| common.join(format!("{name}.lock"))),
        Lock::Config => Some(common.join("config.lock")),
        Lock::MainIndex => Some(common.join("index.lock")),
        Lock::Shallow => Some(common.join("shallow.lock")),
        Lock::Stash => Some(common.join("refs/stash.lock")),
    };
    let Some(path) = path.filter(|path| !path.exists()) else { return Ok(()) };
    // Somebody's who is long gone.
    if path.parent().is_some_and(Path::is_dir) {
        write(&path, "")?;
        let long_ago = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1);
        let file = std::fs::File::options().write(true).open(&path);
        drop(file.and_then(|file| file.set_modified(long_ago)));
        scene.planted.insert(path);
    }
    Ok(())
}

/// The user takes away the locks that they left.
pub(crate) fn remove_locks(scene: &mut Scene<'_>) {
    for path in std::mem::take(&mut scene.planted) {
        drop(std::fs::remove_file(path));
    }
}

/// What is renamed when the repository goes away.
fn top(scene: &Scene<'_>) -> PathBuf {
    match &scene.built.main {
        Some(main) if scene.built.common.starts_with(main) => main.clone(),
        _ => scene.built.common.clone(),
    }
}

pub(super) fn away(scene: &mut Scene<'_>) {
    let from = top(scene);
    let to = scene.place.path("away");
    // Locks that were planted would have another name then.
    if scene.away.is_none() && scene.planted.is_empty() && std::fs::rename(&from, &to).is_ok() {
        scene.away = Some((from, to));
    }
}

/// The user brings the repository back.
pub(crate) fn back(scene: &mut Scene<'_>) {
    let Some((from, to)) = scene.away.take() else { return };
    if std::fs::rename(&to, &from).is_ok() {
        // Locks that were planted meanwhile come with it.
        let planted = std::mem::take(&mut scene.planted);
        let moved = |path: PathBuf| path.strip_prefix(&to).map_or(path.clone(), |r| from.join(r));
        scene.planted = planted.into_iter().map(moved).collect();
    }
}

/// The user takes back what stands in the way: locks, a repository elsewhere, a filter that is
/// gone.
pub(crate) fn mend(scene: &mut Scene<'_>) -> Result<(), Trouble> {
    remove_locks(scene);
    back(scene);
    for key in scene.envs.keys().copied().collect::<Vec<_>>() {
        rename_back(scene, key)?;
    }
    let common = scene.common();
    for name in ["filter.locked.clean", "filter.locked.smudge"] {
        drop(scene.place.git(&common, &["config", name, "cat"])?);
    }
    scene.filter_broken = false;
    Ok(())
}
