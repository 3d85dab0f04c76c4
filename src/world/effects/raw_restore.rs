//! Puts raw copies back into a worktree. Follows no symlink, and replaces a file only after the
//! copy of it is proven whole.

use std::fs::File;
use std::io;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};
use sha2::Digest as _;

use crate::core::Fault;
use crate::core::event::RawCopies;
use crate::format;
use crate::world::effects::raw_list::{Entry, Kind, list_of};
use crate::world::fs::{beneath, paths};
use crate::world::process::cancel::Cancel;

/// Puts copies back into a worktree, over what git has written there. Idempotent.
///
/// # Errors
/// When a copy is damaged, or cannot be put back at its path.
pub(in crate::world) fn put_back(
    raw: &RawCopies,
    target: &Path,
    cancel: &Cancel,
) -> Result<(), Fault> {
    let folder = paths::from_host(&raw.folder);
    for (number, entry) in list_of(raw)?.iter().enumerate() {
        cancel.check()?;
        // Copies from the worktree's own git directory are for the user to inspect.
        if entry.path.starts_with(".git") {
            continue;
        }
        let place = target.join(&entry.path);
        let put = put_one(entry, &folder.join(number.to_string()), target);
        put.map_err(|e| paths::fault("restore", &place, &e))?;
    }
    Ok(())
}

fn put_one(entry: &Entry, content: &Path, target: &Path) -> io::Result<()> {
    let parent = entry.path.parent().unwrap_or(Path::new(""));
    let folder = enter(target, parent)?;
    let name = entry.path.file_name().unwrap_or_default();
    let mode = groundskeeper_system::linux_calls::mode(entry.mode);
    if entry.kind == Kind::Folder {
        drop(enter(target, &entry.path)?);
        return Ok(());
    }
    if entry.kind == Kind::Mode {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&folder, name, flags, Mode::empty()) {
            // The file is in a nested repository, whose files are written later.
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            open => File::from(open?),
        };
        if file.metadata()?.is_file() {
            rustix::fs::fchmod(&file, mode)?;
        }
        return Ok(());
    }
    // The content is verified before the file in the worktree is replaced.
    let bytes = std::fs::read(content)?;
    if format::hex(&sha2::Sha256::digest(&bytes)) != entry.digest {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the raw copy is damaged"));
    }
    // Written under another name and renamed: a file is never seen half written.
    let mut fresh = name.to_owned();
    fresh.push(".gk-copy");
    match rustix::fs::unlinkat(&folder, &fresh, AtFlags::empty()) {
        Err(rustix::io::Errno::NOENT) | Ok(()) => {}
        Err(e) => return Err(e.into()),
    }
    if entry.kind == Kind::Link {
        rustix::fs::symlinkat(paths::from_bytes(&bytes), &folder, &fresh)?;
    } else {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let private = Mode::from_raw_mode(0o600);
        let open = rustix::fs::openat(&folder, &fresh, flags | OFlags::CLOEXEC, private)?;
        let mut file = File::from(open);
        file.write_all(&bytes)?;
        rustix::fs::fchmod(&file, mode)?;
    }
    match rustix::fs::renameat(&folder, &fresh, &folder, name) {
        // git has created a directory there; it is empty unless more is to be put back in it.
        Err(rustix::io::Errno::ISDIR) => {
            rustix::fs::unlinkat(&folder, name, AtFlags::REMOVEDIR)?;
            Ok(rustix::fs::renameat(&folder, &fresh, &folder, name)?)
        }
        renamed => Ok(renamed?),
    }
}

/// Opens a folder in a worktree component by component, never through a symlink,
/// creating what is missing.
fn enter(target: &Path, path: &Path) -> io::Result<std::os::fd::OwnedFd> {
    let top = beneath::open_root(target)?;
    Ok(beneath::make_directory(top.as_fd(), path)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::world::effects::raw_copies::Copies;
    use crate::world::effects::raw_folders::forget;
    use crate::world::effects::raw_list::is_whole;

    #[test]
    fn copied_files_restore_byte_for_byte() {
        let dir = tempfile::tempdir().expect("a directory");
        let cancel = Cancel::new().expect("a cancel");
        let [from, to, copies_dir] = ["from", "to", "home"].map(|name| dir.path().join(name));
        std::fs::create_dir_all(from.join("a/b")).expect("made");
        std::fs::create_dir(&to).expect("made");
        let odd = paths::from_bytes(b"a/b/\xff \n").to_owned();
        std::fs::write(from.join(&odd), b"\r\n\0\xff").expect("written");
        std::fs::set_permissions(from.join(&odd), std::fs::Permissions::from_mode(0o640))
            .expect("set");
        std::os::unix::fs::symlink("/nowhere", from.join("link")).expect("linked");
        let mut copies = Copies::new(copies_dir.clone(), &cancel);
        for path in [odd.as_path(), Path::new("link"), Path::new("gone")] {
            copies.add(&from, path).expect("copied");
        }
        let (raw, lacks) = copies.finish().expect("finished");
        let raw = raw.expect("something");
        assert_eq!((raw.files, raw.bytes, lacks.len()), (2, 12, 0));
        assert!(is_whole(&raw));
        for _ in 0..2 {
            put_back(&raw, &to, &cancel).expect("restored");
        }
        assert_eq!(std::fs::read(to.join(&odd)).expect("read"), b"\r\n\0\xff");
        let mode = to.join(&odd).metadata().expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert_eq!(std::fs::read_link(to.join("link")).expect("a link"), Path::new("/nowhere"));
        let private = paths::from_host(&raw.folder).join("0").metadata().expect("there");
        assert_eq!(private.permissions().mode() & 0o777, 0o600);
        std::fs::write(paths::from_host(&raw.folder).join("0"), "x").expect("written");
        assert!(!is_whole(&raw), "a truncated copy is not whole");
        forget(&copies_dir, &cancel).expect("gone");
        assert!(!copies_dir.exists() && !is_whole(&raw));
    }

    #[test]
    fn restore_follows_no_symlink() {
        let dir = tempfile::tempdir().expect("a directory");
        let cancel = Cancel::new().expect("a cancel");
        let [from, to, copies_dir] = ["from", "to", "home"].map(|name| dir.path().join(name));
        let outside = dir.path().join("outside");
        for dir in [&from.join("a"), &to, &outside] {
            std::fs::create_dir_all(dir).expect("made");
        }
        std::fs::write(from.join("a/file"), "text").expect("written");
        let mut copies = Copies::new(copies_dir, &cancel);
        copies.add(&from, Path::new("a/file")).expect("copied");
        let (raw, _) = copies.finish().expect("finished");
        std::os::unix::fs::symlink(&outside, to.join("a")).expect("linked");
        assert!(put_back(&raw.expect("something"), &to, &cancel).is_err());
        assert_eq!(std::fs::read_dir(&outside).expect("a folder").count(), 0);
    }
}
