//! What must never happen in a git world, looked at from the outside: tokens that are nowhere,
//! foreign things that changed, locks that are left, answers that are not true. It only looks.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::place::Place;
use super::scene::Scene;
use crate::trouble::Trouble;

/// Everything that could be somebody else's: refs by name, files by path.
#[derive(Debug, Clone, Default)]
pub(crate) struct Picture {
    pub(crate) refs: BTreeMap<String, String>,
    pub(crate) files: BTreeMap<PathBuf, String>,
}

/// Takes the picture of all that is there but is no data directory's own business.
pub(crate) fn picture(scene: &Scene<'_>) -> Result<Picture, Trouble> {
    let common = scene.common();
    let mut picture = Picture::default();
    if common.is_dir() {
        let format = "--format=%(refname) %(objectname) %(symref)";
        let listed = scene.place.git(&common, &["for-each-ref", format])?.out;
        for (name, value) in listed.lines().filter_map(|line| line.split_once(' ')) {
            picture.refs.insert(name.to_owned(), value.to_owned());
        }
        git_files(scene, &common, &mut picture.files);
    }
    let mut trees = vec![scene.place.path("outside"), scene.place.path("renamed")];
    trees.extend(scene.built.main.clone());
    for data in scene.datas() {
        let at = scene.place.data(data);
        trees.extend([at.join("worktrees"), at.join("trash"), at.join("rescue")]);
    }
    for tree in trees {
        take(&tree, 0, &mut picture.files);
    }
    Ok(picture)
}

impl Scene<'_> {
    /// Data directories that are there.
    pub(crate) fn datas(&self) -> Vec<usize> {
        let all = self.there.iter().enumerate();
        all.filter(|(_, there)| **there).map(|(data, _)| data).collect()
    }
}

fn take(path: &Path, depth: usize, files: &mut BTreeMap<PathBuf, String>) {
    let Ok(meta) = path.symlink_metadata() else { return };
    let mode = meta.permissions().mode();
    let text = if meta.is_dir() {
        String::new()
    } else if meta.is_symlink() {
        std::fs::read_link(path).map(|to| to.display().to_string()).unwrap_or_default()
    } else if meta.is_file() {
        String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
    } else {
        String::new()
    };
    files.insert(path.to_owned(), format!("{mode:o} {text}"));
    if meta.is_dir() && depth < 40 {
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            // A repository is looked at by what it holds, not by its files.
            if entry.file_name() != ".git" || !entry.path().is_dir() {
                take(&entry.path(), depth + 1, files);
            }
        }
    }
}

/// Files of git's own that no verb has any business with.
fn git_files(scene: &Scene<'_>, common: &Path, files: &mut BTreeMap<PathBuf, String>) {
    for name in ["config", "config.worktree", "HEAD", "index", "info", "hooks", "shallow"] {
        take(&common.join(name), 0, files);
    }
    for lock in locks(common) {
        take(&lock, 0, files);
    }
    let admins = std::fs::read_dir(common.join("worktrees")).into_iter().flatten().flatten();
    for admin in admins.map(|entry| entry.path()) {
        let pointer = std::fs::read_to_string(admin.join("gitdir")).unwrap_or_default();
        let theirs =
            scene.built.foreign.iter().any(|path| Path::new(pointer.trim()).starts_with(path));
        if theirs {
            for name in ["HEAD", "gitdir", "commondir", "locked", "index", "config.worktree"] {
                take(&admin.join(name), 0, files);
            }
        }
    }
}

/// The locks of git's that are there.
pub(crate) fn locks(common: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut todo = vec![(common.to_owned(), 0)];
    while let Some((folder, depth)) = todo.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|e| e == "lock") && path.is_file() {
                found.insert(path);
            } else if depth < 12 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let name = entry.file_name();
                let skip = depth == 0 && (name == "groundskeeper" || name == "logs");
                if !skip {
                    todo.push((path, depth + 1));
                }
            }
        }
    }
    found
}

/// Says what changed that the daemon of `data` has nothing to do with.
pub(crate) fn foreign(
    scene: &Scene<'_>,
    (data, busy): (usize, &[usize]),
    before: &Picture,
    after: &Picture,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let at_work = || std::iter::once(&data).chain(busy);
    for (name, was) in &before.refs {
        if at_work().any(|data| is_own_ref(scene, *data, name)) {
            continue;
        }
        match after.refs.get(name) {
            None => wrong.push(format!("{name} is gone, which was {was}")),
            Some(is) if is != was => wrong.push(format!("{name} was {was} and is {is}")),
            Some(_) => {}
        }
    }
    let is_own = |path: &Path| at_work().any(|data| is_own_file(scene, *data, path));
    for (path, was) in before.files.iter().filter(|(path, _)| !is_own(path)) {
        match after.files.get(path) {
            None => wrong.push(format!("{} is gone", path.display())),
            Some(is) if is != was => {
                let (was, is) = (short(was), short(is));
                wrong.push(format!("{} was {was:?} and is {is:?}", path.display()));
            }
            Some(_) => {}
        }
    }
    let canary = scene.place.path("outside/canary");
    let fresh = after.files.keys().filter(|path| !before.files.contains_key(*path));
    let fresh = fresh.filter(|path| path.starts_with(&canary));
    wrong.extend(fresh.map(|path| format!("{} was written", path.display())));
    wrong
}

fn short(text: &str) -> String {
    text.chars().take(120).collect()
}

fn is_own_file(scene: &Scene<'_>, data: usize, path: &Path) -> bool {
    let own = scene.place.data(data);
    let renamed = scene.envs.iter().filter(|(key, _)| key.0 == data);
    let mut renamed = renamed.filter_map(|(_, env)| env.renamed.as_ref());
    // The lock of a worktree's own goes with it; so does what lies in a directory of ours that a
    // user has given another name.
    let admin = path.parent().and_then(Path::parent).is_some_and(|up| up.ends_with("worktrees"));
    path.starts_with(own)
        || renamed.any(|at| path.starts_with(at))
        || admin && path.extension().is_some_and(|e| e == "lock")
}

fn is_own_ref(scene: &Scene<'_>, data: usize, name: &str) -> bool {
    if let Some(rest) = name.strip_prefix("refs/groundskeeper/") {
        // Names carry the id of the log that gave them.
        let others = [0, 1].into_iter().filter(|other| *other != data);
        let ids = others.filter_map(|other| log_id(scene.place, other));
        let own = log_id(scene.place, data);
        return !ids.filter(|id| own.as_ref() != Some(id)).any(|id| rest.contains(&id));
    }
    let of = |key: &(usize, usize)| scene.branch_of(*key).is_some_and(|branch| branch == name);
    let mut keys = scene.envs.iter().filter(|(_, env)| env.made_branch).map(|(key, _)| key);
    keys.any(|key| key.0 == data && of(key)) || is_checked_out(scene, data, name)
}

/// Agents commit on what is checked out in their worktree, through the program as well.
fn is_checked_out(scene: &Scene<'_>, data: usize, name: &str) -> bool {
    let own = scene.envs.iter().filter(|(key, env)| key.0 == data && env.live);
    own.filter_map(|(_, env)| Scene::admin(&env.path)).any(|admin| {
        let head = std::fs::read_to_string(admin.join("HEAD")).unwrap_or_default();
        head.trim().strip_prefix("ref: ") == Some(name)
    })
}

/// The id of the log of a data directory.
fn log_id(place: &Place, data: usize) -> Option<String> {
    let text = std::fs::read_to_string(place.data(data).join("identity")).ok()?;
    let ids = text.split(|c: char| !c.is_ascii_hexdigit());
    ids.filter(|part| part.len() == 32).map(str::to_owned).next()
}

/// Says why a worktree that is said to be ready is none.
pub(crate) fn unusable(scene: &Scene<'_>, path: &Path) -> Result<Option<String>, Trouble> {
    let status = scene.place.git(path, &["status", "--porcelain"])?;
    if !status.ok() {
        return Ok(Some(format!("git status in {}: {}", path.display(), status.err.trim())));
    }
    let top = scene.place.git(path, &["rev-parse", "--show-toplevel"])?;
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if Path::new(top.out.trim_end_matches('\n')) != real {
        return Ok(Some(format!(
            "git in {} says that its top is {}",
            path.display(),
            top.out.trim()
        )));
    }
    Ok(None)
}

/// Whether git has a worktree registered at this path.
pub(crate) fn is_registered(scene: &Scene<'_>, path: &Path) -> Result<bool, Trouble> {
    let listed = scene.place.git(&scene.common(), &["worktree", "list", "--porcelain", "-z"])?.out;
    Ok(listed.split('\0').any(|line| line.strip_prefix("worktree ").map(Path::new) == Some(path)))
}
