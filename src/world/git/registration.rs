//! git's registration of a worktree: published by one rename, hidden by one rename, archived later.
//!
//! Other git processes read every administrative directory whenever they list worktrees, and die
//! when one vanishes between two of their reads. So a new one appears complete. An old one is first
//! hidden: without its `gitdir` file git skips it, and its lock keeps `prune` away. It is moved out
//! only after other work was done, when no git process can still be reading it.

use std::io;
use std::path::Path;

use crate::core::{Environment, Life};
use crate::failpoint::kill::point;
use crate::world::fs::{self, paths, removal};
use crate::world::git::error::Error;
use crate::world::git::marker::{Admin, Marker};
use crate::world::git::refs;

/// Attempts to put an entry into a directory that git may remove while it is empty.
const RACES_MAX: usize = 16;
const POINTER: &str = "gitdir";
const HIDDEN: &str = "gitdir.removed";

/// Publishes the staged administrative directory. This one rename makes the worktree known to git.
pub(in crate::world) fn publish(admin: &Admin) -> Result<(), Error> {
    let parent = admin.published.parent().unwrap_or(&admin.published);
    for _ in 0..RACES_MAX {
        match std::fs::create_dir(parent) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(fs::Error::about("create", parent)(e).into());
            }
            _ => {}
        }
        match paths::rename(&admin.staged, &admin.published) {
            Ok(()) => {
                // Fails while another environment is staged in it; either outcome is fine.
                drop(paths::remove_dir_if_empty(&admin.folder));
                return Ok(());
            }
            // git removes `worktrees` with its last entry, maybe since `create_dir` above.
            Err(e) if e.kind() == io::ErrorKind::NotFound && !parent.exists() => {}
            Err(e) => return Err(fs::Error::about("publish", &admin.published)(e).into()),
        }
    }
    Err(Error::Vanishing { folder: parent.to_owned() })
}

/// Owner of a registration: a log, and an incarnation in it.
pub(in crate::world) struct Owner<'a> {
    pub(in crate::world) log: &'a str,
    pub(in crate::world) life: Life<'a>,
}

/// Reports whether the published directory carries the marker of this incarnation.
fn is_ours(owner: &Owner<'_>, admin: &Admin) -> bool {
    let marker = Marker::read(&admin.published).ok().flatten();
    marker.is_some_and(|m| m.is_of(owner.log, owner.life))
}

/// Hides the registration: from here on git does not know the worktree any more. A registration
/// that is not ours, or has no pointer, is left alone.
pub(in crate::world) fn hide(owner: &Owner<'_>, admin: &Admin) -> Result<(), Error> {
    if !is_ours(owner, admin) {
        return Ok(());
    }
    let (from, to) = (admin.published.join(POINTER), admin.published.join(HIDDEN));
    match paths::rename(&from, &to) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        hidden => Ok(hidden.map_err(fs::Error::about("hide", &from))?),
    }
}

/// Moves a hidden registration out of git's folder and keeps it for a restore.
pub(in crate::world) fn archive(owner: &Owner<'_>, admin: &Admin) -> Result<(), Error> {
    if is_ours(owner, admin) { archive_hidden(admin) } else { Ok(()) }
}

/// Does the same for an incarnation that has ended, hidden or not: its repository may have been
/// unavailable when its worktree was removed.
pub(in crate::world) fn archive_ended(
    admin: &Admin,
    log: &str,
    life: Life<'_>,
) -> Result<(), Error> {
    let (from, to) = (admin.published.join(POINTER), admin.published.join(HIDDEN));
    let is_its = |marker: Marker| marker.is_of(log, life);
    if from.exists() && Marker::read(&admin.published)?.is_some_and(is_its) {
        match paths::rename(&from, &to) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            hidden => hidden.map_err(fs::Error::about("hide", &from))?,
        }
    }
    archive_hidden(admin)
}

/// Does the same for a hidden registration; one that is visible or missing is left alone.
pub(in crate::world) fn archive_hidden(admin: &Admin) -> Result<(), Error> {
    if !admin.published.exists() || admin.published.join(POINTER).exists() {
        return Ok(());
    }
    std::fs::create_dir_all(&admin.folder).map_err(fs::Error::about("create", &admin.folder))?;
    let from = &admin.published;
    drop_locks(from)?;
    match paths::rename(from, &admin.removed) {
        // A restore or a purge of the same incarnation was faster.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        moved => moved.map_err(fs::Error::about("move", from))?,
    }
    point("unregister.moved");
    Ok(())
}

/// Keeps the administrative directory of a worktree that was never published, for a restore of that
/// worktree; where one is kept already, this one is left alone.
pub(in crate::world) fn archive_staged(admin: &Admin) -> Result<(), Error> {
    match removal::rename(&admin.staged, &admin.removed) {
        Err(fs::Error::System { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(fs::Error::Exists { .. }) => Ok(()),
        renamed => Ok(renamed?),
    }
}

/// Removes the lock files of gits that were killed in an ended worktree: a restore would bring back
/// a worktree in which no git can work.
fn drop_locks(admin: &Path) -> Result<(), fs::Error> {
    let entries = match std::fs::read_dir(admin) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(fs::Error::about("read", admin))?,
    };
    let files = entries.flatten().map(|entry| entry.path());
    for lock in files.filter(|path| path.extension().is_some_and(|e| e == "lock")) {
        paths::remove_file_if_any(&lock).map_err(fs::Error::about("remove", &lock))?;
    }
    Ok(())
}

/// Removes a hidden registration for good, and whatever an interrupted attempt left of it. The
/// names of `gone` and `staged` contain our log's id, so no other program writes there.
pub(in crate::world) fn remove(owner: &Owner<'_>, admin: &Admin) -> Result<(), Error> {
    // First the rest of an interrupted attempt: the rename below needs the name to be free.
    removal::remove_ours(&admin.gone)?;
    if is_ours(owner, admin) {
        let (published, gone) = (&admin.published, &admin.gone);
        std::fs::create_dir_all(&admin.folder)
            .map_err(fs::Error::about("create", &admin.folder))?;
        // One rename takes it from git's view whole; a deletion in place would show half of it.
        paths::rename(published, gone).map_err(fs::Error::about("move", published))?;
    }
    removal::remove_ours(&admin.gone)?;
    removal::remove_ours(&admin.staged)?;
    drop(paths::remove_dir_if_empty(&admin.folder));
    Ok(())
}

/// Moves a registration whose incarnation has ended out of git's folder; it is hidden first.
pub(in crate::world) fn archive_stranded(published: &Path) -> Result<(), Error> {
    let pointer = published.join(POINTER);
    match paths::rename(&pointer, published.join(HIDDEN)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(fs::Error::about("hide", &pointer)(e).into());
        }
        _ => {}
    }
    let common = published.parent().and_then(Path::parent).unwrap_or(published);
    let folder = common.join("groundskeeper");
    std::fs::create_dir_all(&folder).map_err(fs::Error::about("create", &folder))?;
    let name = published.file_name().unwrap_or_default().to_string_lossy().into_owned();
    // The name may be taken by the registration that was archived when the worktree was removed.
    let others = (1..=RACES_MAX).map(|n| format!("{name}.{n}.removed"));
    let names = std::iter::once(format!("{name}.removed")).chain(others);
    let mut free = names.map(|name| folder.join(name)).filter(|path| !path.exists());
    match free.next() {
        Some(path) => Ok(removal::rename(published, &path)?),
        None => Err(Error::NamesTaken { folder, name }),
    }
}

/// Deletes an archived registration: the trash entry that it was kept for is deleted.
pub(in crate::world) fn forget(admin: &Admin) -> Result<(), Error> {
    removal::remove_ours(&admin.removed)?;
    drop(paths::remove_dir_if_empty(&admin.folder));
    Ok(())
}

/// Returns where a branch is in use: git allows a branch in one worktree only. A branch that is
/// being rebased or bisected is in use, too, though HEAD is detached meanwhile.
pub(in crate::world) fn checked_out(common: &Path, reference: &str) -> Option<String> {
    let linked = std::fs::read_dir(common.join("worktrees")).into_iter().flatten().flatten();
    let linked = linked.map(|e| e.path()).filter(|dir| dir.join(POINTER).exists());
    // A bare repository has a HEAD, but nothing is checked out there; it has no index.
    let main = Some(common.to_owned()).filter(|dir| dir.join("index").exists());
    let mut places = main.into_iter().chain(linked);
    places.find_map(|dir| Some(format!("{} ({})", dir.display(), use_of(&dir, reference)?)))
}

/// Returns how the worktree with this administrative directory uses a branch.
fn use_of(admin: &Path, reference: &str) -> Option<&'static str> {
    let holds = |name: &str, wanted: &str| {
        let read =
            if name == "HEAD" { refs::head_text(admin) } else { std::fs::read(admin.join(name)) };
        let text = read.unwrap_or_default();
        text.split(|b| *b == b'\n').any(|line| line.trim_ascii_end() == wanted.as_bytes())
    };
    let branch = reference.strip_prefix("refs/heads/").unwrap_or(reference);
    if holds("HEAD", &format!("ref: {reference}")) {
        return Some("checked out");
    }
    let rebased = ["rebase-merge/head-name", "rebase-apply/head-name", "rebase-merge/update-refs"];
    if rebased.iter().any(|name| holds(name, reference)) {
        return Some("being rebased");
    }
    // The file holds the branch where the bisect began and to which it returns.
    let bisected = holds("BISECT_START", branch) || holds("BISECT_START", reference);
    bisected.then_some("being bisected")
}

/// Returns the reason that `git worktree lock` shows while the environment exists.
pub(in crate::world) fn lock_reason(env: &Environment) -> String {
    format!(
        "groundskeeper environment {} (incarnation {}); remove it with `groundskeeper rm {}`\n",
        env.id, env.incarnation, env.id
    )
}

pub(in crate::world) fn with_newline(path: &Path) -> Vec<u8> {
    let mut bytes = paths::to_host(path).0;
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::EnvironmentId;

    #[test]
    fn rebased_or_bisected_branch_is_used() {
        let dir = tempfile::tempdir().expect("a directory");
        let other = dir.path().join("worktrees/other");
        let put = |name: &str, text: &str| {
            let path = other.join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, text).expect("written");
        };
        let used = || checked_out(dir.path(), "refs/heads/gk/a");
        put("gitdir", "/somewhere/.git\n");
        for (name, text) in [
            ("HEAD", "ref: refs/heads/gk/a\n"),
            ("rebase-merge/head-name", "refs/heads/gk/a\n"),
            ("rebase-apply/head-name", "refs/heads/gk/a\n"),
            ("rebase-merge/update-refs", "refs/heads/gk/a\n0000\n1111\n"),
            ("BISECT_START", "gk/a\n"),
        ] {
            assert_eq!(used(), None, "before {name}");
            put(name, text);
            assert!(used().is_some_and(|place| place.contains("worktrees/other")), "{name}");
            put(name, "refs/heads/gk/ab\n");
        }
        assert_eq!(used(), None);
    }

    #[test]
    fn hidden_registration_drops_stale_index_lock() {
        let dir = tempfile::tempdir().expect("a directory");
        let id = EnvironmentId::parse("a").expect("an id");
        let life = Life { id: &id, incarnation: 1, nonce: None };
        let admin = Admin::at("0123456789abcdef", &paths::to_host(dir.path()), life);
        std::fs::create_dir_all(&admin.published).expect("made");
        for name in ["index", "index.lock", "locked"] {
            std::fs::write(admin.published.join(name), "").expect("written");
        }
        archive_hidden(&admin).expect("archived");
        let there = |name: &str| admin.removed.join(name).exists();
        assert!(there("index") && there("locked") && !there("index.lock"));
    }
}
