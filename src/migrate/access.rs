//! Whether this user may write a database, and give the new one the owner of the old one: what is
//! in the way, with the command that helps.

use std::fs::File;
#[cfg(unix)]
use std::fs::Permissions;
#[cfg(unix)]
use std::io;
use std::path::Path;

use groundskeeper_core::{Code, Fault};
use groundskeeper_system::paths;

/// Checks that a database and its directory can be written: SQLite locks the database by writing to
/// it, also where a migration only reads.
///
/// # Errors
/// `permission_denied`, or `io_error` for a read-only file system, with the command that helps.
pub(super) fn check_writable(database: &Path) -> Result<(), Fault> {
    check_writable_dir(database)?;
    check_path(database)
}

/// Checks that the directory of a database can be written.
///
/// # Errors
/// As [`check_writable`].
pub(super) fn check_writable_dir(database: &Path) -> Result<(), Fault> {
    check_path(database.parent().unwrap_or(Path::new("/")))
}

fn check_path(path: &Path) -> Result<(), Fault> {
    let Some(obstacle) = unwritable(path) else { return Ok(()) };
    let code = match obstacle {
        Obstacle::Mode => Code::PermissionDenied,
        Obstacle::FileSystem => Code::Io,
        Obstacle::Missing => Code::PathNotFound,
    };
    let message = format!("{} must be writable", path.display());
    Err(Fault::new(code, message, obstacle.hint(path)))
}

/// Returns the command that lets this user write a database; `None` when nothing is in the way.
pub(super) fn hint(database: &Path) -> Option<String> {
    let dir = database.parent().unwrap_or(Path::new("/"));
    [dir, database].into_iter().find_map(|path| Some(unwritable(path)?.hint(path)))
}

enum Obstacle {
    Mode,
    #[cfg_attr(not(unix), expect(dead_code, reason = "only Unix tells it from a mode"))]
    FileSystem,
    Missing,
}

impl Obstacle {
    fn hint(&self, path: &Path) -> String {
        let rights = if path.is_dir() { "rwx" } else { "rw" };
        let path = path.display();
        match self {
            Self::Mode => {
                format!("run `chmod u+{rights} {path}` as its owner, and migrate as that user")
            }
            Self::FileSystem => {
                format!("remount the read-only file system of {path} with write access, then retry")
            }
            Self::Missing => format!("check that the path {path} exists"),
        }
    }
}

/// Returns why this user cannot write to a path. Root may write to a file of any mode.
#[cfg(unix)]
fn unwritable(path: &Path) -> Option<Obstacle> {
    use rustix::fs::{Access, access};
    use rustix::io::Errno;
    // A directory is not listed, but the names in it are used.
    let read = if path.is_dir() { Access::EXEC_OK } else { Access::READ_OK };
    match access(path, read | Access::WRITE_OK) {
        Ok(()) => None,
        Err(Errno::ROFS) => Some(Obstacle::FileSystem),
        Err(Errno::NOENT | Errno::NOTDIR) => Some(Obstacle::Missing),
        Err(_) => Some(Obstacle::Mode),
    }
}

#[cfg(not(unix))]
fn unwritable(path: &Path) -> Option<Obstacle> {
    match path.metadata() {
        Ok(found) => found.permissions().readonly().then_some(Obstacle::Mode),
        Err(_) => Some(Obstacle::Missing),
    }
}

/// Checks that a file may be replaced by a rename: in a directory with the sticky bit only the
/// owner of the file, the owner of the directory and root may do so.
///
/// # Errors
/// `permission_denied` naming the owner.
#[cfg(unix)]
pub(super) fn check_replaceable(path: &Path) -> Result<(), Fault> {
    use std::os::unix::fs::MetadataExt as _;
    let dir = path.parent().unwrap_or(Path::new("/"));
    let (Ok(dir), Ok(file)) = (dir.metadata(), path.symlink_metadata()) else { return Ok(()) };
    let user = rustix::process::geteuid().as_raw();
    if !is_held_by_sticky_bit(user, (dir.mode(), dir.uid()), file.uid()) {
        return Ok(());
    }
    let message = format!("{} cannot be replaced: its directory is sticky", path.display());
    let hint = format!("migrate as user {}, to whom the file belongs", file.uid());
    Err(Fault::new(Code::PermissionDenied, message, hint))
}

#[cfg(unix)]
fn is_held_by_sticky_bit(user: u32, (dir_mode, dir_owner): (u32, u32), owner: u32) -> bool {
    const STICKY: u32 = 0o1000;
    dir_mode & STICKY != 0 && user != 0 && user != dir_owner && user != owner
}

/// No directory is sticky here.
#[cfg(not(unix))]
pub(super) fn check_replaceable(_: &Path) -> Result<(), Fault> {
    Ok(())
}

/// Checks that a new file beside a database can get the owner and group of the database. `trial` is
/// a name for a file that exists only during this call, where the file system needs one.
///
/// # Errors
/// `permission_denied` naming the owner.
#[cfg(unix)]
pub(super) fn check_owner(database: &Path, trial: &Path) -> Result<(), Fault> {
    let failed = paths::failed("create a file beside", database);
    // A real file, since the answer depends on more than user ids: on capabilities, on the user
    // namespace and on the file system.
    let (file, is_named) = match nameless(database) {
        Some(file) => (file, false),
        None => (named(trial).map_err(&failed)?, true),
    };
    let result = give_owner(&file, database);
    if is_named {
        std::fs::remove_file(trial).map_err(&failed)?;
    }
    result
}

/// Gives a new file the owner, group and mode of a database.
///
/// # Errors
/// `permission_denied` when this user may not do so; the error of the system.
#[cfg(unix)]
pub(super) fn same_owner_and_mode(database: &Path, new: &Path) -> Result<(), Fault> {
    use std::os::unix::fs::PermissionsExt as _;
    let failed = paths::failed("set the owner and mode of", new);
    // Not through a link: in a directory of another user, root would give away its target.
    let file = open_no_follow(new).map_err(&failed)?;
    // The owner first. Until then the file is readable by this user only.
    give_owner(&file, database)?;
    let mode = database.metadata().map_err(&failed)?.permissions().mode() & 0o777;
    file.set_permissions(Permissions::from_mode(mode)).map_err(&failed)
}

/// Gives a new file the owner and group of a database; its mode stays.
///
/// # Errors
/// `permission_denied` when this user may not do so; the error of the system.
#[cfg(unix)]
pub(super) fn same_owner(database: &Path, new: &Path) -> Result<(), Fault> {
    let failed = paths::failed("set the owner of", new);
    give_owner(&open_no_follow(new).map_err(&failed)?, database)
}

/// The owner of a new file is the user who made it.
#[cfg(not(unix))]
pub(super) fn same_owner(_: &Path, _: &Path) -> Result<(), Fault> {
    Ok(())
}

/// Opens a private file again for writing.
///
/// # Errors
/// `database_in_use` when the name leads elsewhere; the error of the system.
pub(super) fn open_again(path: &Path) -> Result<File, Fault> {
    let failed = paths::failed("open", path);
    identity(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let file = open_no_follow(path).map_err(&failed)?;
        let found = file.metadata().map_err(&failed)?;
        // Of the open file: the name may have been replaced since the first check.
        if !found.is_file() || found.nlink() != 1 {
            return Err(replaced(path));
        }
        Ok(file)
    }
    #[cfg(not(unix))]
    File::options().write(true).open(path).map_err(&failed)
}

/// Device and inode of a file.
pub(super) type FileId = (u64, u64);

/// Returns which file a name leads to; `None` when there is none, and where the system does not
/// tell.
///
/// # Errors
/// `database_in_use` when it is no plain file, or has a second name.
pub(super) fn identity(path: &Path) -> Result<Option<FileId>, Fault> {
    let found = match path.symlink_metadata() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        found => found.map_err(paths::failed("inspect", path))?,
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        if !found.is_file() || found.nlink() != 1 {
            return Err(replaced(path));
        }
        Ok(Some((found.dev(), found.ino())))
    }
    #[cfg(not(unix))]
    if found.is_file() { Ok(None) } else { Err(replaced(path)) }
}

/// Returns the fault for a private file whose name leads to another file.
pub(super) fn replaced(path: &Path) -> Fault {
    let message = format!("{} was replaced while it was in use", path.display());
    let hint = "find the program that changes this directory, end it, then migrate again; nothing \
                was lost";
    Fault::new(Code::DatabaseInUse, message, hint)
}

/// Checks that a log belongs to this user or to root, for root its directory as well: what another
/// user wrote there would be believed and followed.
///
/// # Errors
/// `permission_denied` naming the owner.
#[cfg(unix)]
pub(super) fn check_own_log(log: &Path) -> Result<(), Fault> {
    use std::os::unix::fs::MetadataExt as _;
    let user = rustix::process::geteuid().as_raw();
    // A directory that is shared with others is a user's own affair, but not root's.
    let dir = log.parent().filter(|_| user == 0);
    for path in dir.into_iter().chain([log]) {
        // A link is its owner's word, and what it leads to is the content.
        for found in [path.symlink_metadata(), path.metadata()].into_iter().flatten() {
            if ![user, 0].contains(&found.uid()) {
                let (path, owner) = (path.display(), found.uid());
                let message = format!("{path} belongs to user {owner}, not to user {user} or root");
                let hint = format!("migrate as user {owner}, or move {path} away");
                return Err(Fault::new(Code::PermissionDenied, message, hint));
            }
        }
    }
    Ok(())
}

/// Files of other users are told apart by their access lists here.
#[cfg(not(unix))]
pub(super) fn check_own_log(_: &Path) -> Result<(), Fault> {
    Ok(())
}

#[cfg(unix)]
fn give_owner(file: &File, database: &Path) -> Result<(), Fault> {
    use std::os::unix::fs::{MetadataExt as _, fchown};
    let failed = paths::failed("read the owner of", database);
    let wanted = database.metadata().map_err(&failed)?;
    let found = file.metadata().map_err(&failed)?;
    let (uid, gid) = (wanted.uid(), wanted.gid());
    if (found.uid(), found.gid()) == (uid, gid) {
        return Ok(());
    }
    fchown(file, Some(uid), Some(gid)).map_err(|error| {
        let path = database.display();
        let message =
            format!("{path} belongs to user {uid} and group {gid}, and the new database could not");
        let hint = format!("migrate as user {uid} with group {gid}, or as root");
        Fault::new(Code::PermissionDenied, message, hint).because(error)
    })
}

/// Creates a file without a name in the directory of a database, so that a kill leaves nothing;
/// `None` where the system cannot.
#[cfg(target_os = "linux")]
fn nameless(database: &Path) -> Option<File> {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    open(database.parent()?, flags, Mode::RUSR | Mode::WUSR).ok().map(File::from)
}

#[cfg(all(unix, not(target_os = "linux")))]
fn nameless(_: &Path) -> Option<File> {
    None
}

#[cfg(unix)]
fn named(trial: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    // A kill may have left one.
    paths::remove_file_if_any(trial)?;
    File::options().write(true).create_new(true).mode(0o600).open(trial)
}

#[cfg(unix)]
fn open_no_follow(path: &Path) -> io::Result<File> {
    use rustix::fs::OFlags;
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    File::options().write(true).custom_flags(flags).open(path)
}

/// The new database belongs to the user who makes it, which needs no right.
#[cfg(not(unix))]
pub(super) fn check_owner(_: &Path, _: &Path) -> Result<(), Fault> {
    Ok(())
}

/// Gives a new file the access list of a database. Its owner stays the user who made it.
#[cfg(windows)]
pub(super) fn same_owner_and_mode(database: &Path, new: &Path) -> Result<(), Fault> {
    groundskeeper_system::windows_access::copy_access_list(database, new)
        .map_err(paths::failed("set the access list of", new))
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    #[test]
    fn sticky_directory_protects_other_owners() {
        let sticky = (0o41777, 7);
        assert!(is_held_by_sticky_bit(8, sticky, 9));
        for (user, dir, owner) in
            [(0, sticky, 9), (7, sticky, 9), (9, sticky, 9), (8, (0o40777, 7), 9)]
        {
            assert!(!is_held_by_sticky_bit(user, dir, owner), "{user}");
        }
    }
}
