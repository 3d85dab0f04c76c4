//! Removes directories and files: by rename first, and for good only later.
//!
//! Nothing here decides *whether* a path may be removed; callers have proven that (`marker.rs`).
//! The functions keep a removal from reaching further than intended: into a mounted file system,
//! through a link, or onto another device.

use std::io;
use std::path::Path;

use groundskeeper_system::linux_calls::is_immutable;
use groundskeeper_system::proc;

use crate::failpoint::fault;
use crate::world::fs::error::Error;
use crate::world::fs::{paths, remove_tree};

/// Removes a directory of ours in the repository; a missing one is success.
pub(in crate::world) fn remove_ours(path: &Path) -> Result<(), Error> {
    match fault::call("remove").and_then(|()| std::fs::remove_dir_all(path)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(Error::about("remove", path)),
    }
}

/// Removes a file of ours in the repository; a missing one is success.
pub(in crate::world) fn remove_ours_file(path: &Path) -> Result<(), Error> {
    paths::remove_file_if_any(path).map_err(Error::about("remove", path))
}

/// Refuses when a file system is mounted at or below `path`: a rename would take the mount along,
/// and a deletion would reach into it. Also refuses where the mounts are unknown.
pub(in crate::world) fn no_mounts(path: &Path) -> Result<(), Error> {
    let table = proc::mounts()?;
    for line in table.split(|b| *b == b'\n') {
        let Some(field) = line.split(|b| *b == b' ').nth(4) else { continue };
        let mounted = unescape(field);
        if paths::from_bytes(&mounted).starts_with(path) {
            let place = String::from_utf8_lossy(&mounted).into_owned();
            return Err(Error::MountInside { path: path.to_owned(), place });
        }
    }
    Ok(())
}

/// Returns why a directory cannot be moved, before any step of its removal: a mount inside, or an
/// immutable or append-only attribute that keeps even its owner from renaming it.
pub(in crate::world) fn obstacle(path: &Path) -> Option<Error> {
    if let Err(error) = no_mounts(path) {
        return Some(error);
    }
    // A rename changes the directory and its parent, so neither may have the attribute.
    let marked = [Some(path), path.parent()].into_iter().flatten().find(|dir| is_immutable(dir))?;
    Some(Error::Immutable { path: marked.to_owned() })
}

/// Decodes a path of mountinfo, which has blanks, tabs, newlines and backslashes as octal escapes.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        if let Some(byte) = octal {
            out.push(byte);
            rest = &tail[3..];
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    out
}

/// Deletes a tree for good. Links are removed, not followed. Mounts are not entered. Directories
/// that deny writing to their owner (module caches create such) get the owner's permissions first.
pub(in crate::world) fn delete_tree(path: &Path) -> Result<(), Error> {
    no_mounts(path)?;
    remove_tree::tree(path, &mut |_| Ok::<(), Error>(())).map(drop)
}

/// Renames a worktree into a folder of its own elsewhere; its siblings stay.
pub(in crate::world) fn move_into(worktree: &Path, folder: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(folder).map_err(Error::about("create", folder))?;
    let to = folder.join(worktree.file_name().unwrap_or_default());
    rename(worktree, &to)
}

/// Renames without ever replacing an existing entry, which may be work.
pub(in crate::world) fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let no_replace = || Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?);
    let renamed: io::Result<()> = fault::call("rename").and_then(|()| no_replace());
    let renamed = match renamed.map_err(|e| (rustix::io::Errno::from_io_error(&e), e)) {
        // Not every file system supports `RENAME_NOREPLACE`. The fallback checks first; a file that
        // appears between check and rename would be replaced.
        Err((Some(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS), _)) => {
            match paths::exists(to) {
                Ok(true) => Err(io::ErrorKind::AlreadyExists.into()),
                Ok(false) => std::fs::rename(from, to),
                Err(e) => Err(e),
            }
        }
        renamed => renamed.map_err(|(_, e)| e),
    };
    renamed.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => Error::Exists { path: to.to_owned(), source },
        io::ErrorKind::CrossesDevices => Error::CrossDevice { path: from.to_owned(), source },
        _ => Error::System { what: "move", path: from.to_owned(), source },
    })
}

/// Deletes the entries of a directory, but not the directory itself.
pub(in crate::world) fn empty(path: &Path) -> Result<(), Error> {
    no_mounts(path)?;
    for entry in std::fs::read_dir(path).map_err(Error::about("read", path))? {
        let entry = entry.map_err(Error::about("read", path))?;
        let kind = entry.file_type().map_err(Error::about("inspect", path))?;
        if kind.is_dir() {
            delete_tree(&entry.path())?;
        } else {
            std::fs::remove_file(entry.path()).map_err(Error::about("delete", &entry.path()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn mount_points_are_unescaped() {
        assert_eq!(unescape(b"/a\\040b\\134c\\012"), b"/a b\\c\n");
        assert_eq!(unescape(b"/plain\\"), b"/plain\\");
    }

    /// The target of a symlink stays.
    #[test]
    fn delete_removes_readonly_tree_without_links() {
        let dir = tempfile::tempdir().expect("a directory");
        let outside = dir.path().join("outside");
        let tree = dir.path().join("tree");
        std::fs::create_dir_all(tree.join("locked")).expect("made");
        std::fs::write(&outside, "kept").expect("written");
        std::fs::write(tree.join("locked/file"), "").expect("written");
        std::os::unix::fs::symlink(&outside, tree.join("link")).expect("linked");
        let mode = std::fs::Permissions::from_mode(0o500);
        std::fs::set_permissions(tree.join("locked"), mode).expect("locked");
        delete_tree(&tree).expect("deleted");
        assert!(!tree.exists());
        assert_eq!(std::fs::read_to_string(outside).expect("read"), "kept");
    }
}
