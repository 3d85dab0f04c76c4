//! Opens the files and folders of this program by their names. Anything else that has such a name
//! is refused and named: a FIFO would keep an open waiting for its other end, a device may act when
//! it is opened, and a link leads to a file that is not ours.
//!
//! It never waits, and changes nothing that it refuses.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use crate::misplaced::Misplaced;

/// Whether a link in the place of a file is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// The user chose the path, and may have put a link there.
    Followed,
    /// This program made the file, and makes no links.
    Refused,
}

/// Checks that a plain file is at a path. Returns `None` when there is nothing.
///
/// # Errors
/// [`Misplaced`] when something else is there, or the error of the system.
pub fn check(path: &Path, links: Links) -> io::Result<Option<Metadata>> {
    let found = match links {
        Links::Followed => path.metadata(),
        Links::Refused => path.symlink_metadata(),
    };
    match found {
        Ok(found) if found.is_file() => Ok(Some(found)),
        Ok(found) => Err(Misplaced::error(path, found.file_type(), "a plain file")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Checks that a folder, a link to one, or nothing is at a path.
///
/// # Errors
/// [`Misplaced`] when something else is there, or the error of the system.
pub fn check_folder(path: &Path) -> io::Result<()> {
    let there = match path.metadata() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => path.symlink_metadata(),
        found => found,
    };
    match there {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(found) => Err(Misplaced::error(path, found.file_type(), "a directory")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

/// Opens a plain file. `options` say for what, and whether it is made.
///
/// # Errors
/// [`Misplaced`] when something else is there, or the error of the system.
pub fn open(path: &Path, options: &OpenOptions, links: Links) -> io::Result<File> {
    // Before the open, which alone may make a device act.
    check(path, links)?;
    let file = without_waiting(options, links).open(path)?;
    // Again: it may have been replaced since.
    let found = file.metadata()?;
    if found.is_file() {
        Ok(file)
    } else {
        Err(Misplaced::error(path, found.file_type(), "a plain file"))
    }
}

/// Reads a plain file of at most `max` bytes. Returns `None` when there is nothing at the path.
///
/// # Errors
/// [`Misplaced`] when something else is there, `FileTooLarge`, or the error of the system.
pub fn read(path: &Path, max: u64, links: Links) -> io::Result<Option<Vec<u8>>> {
    let file = match open(path, File::options().read(true), links) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut bytes = Vec::new();
    file.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(Some(bytes))
}

/// Replaces a plain file with one of this content that only its owner can read: a reader finds the
/// old content or the new one.
///
/// # Errors
/// [`Misplaced`] when something else is there, or the error of the system.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    check(path, Links::Refused)?;
    let fresh = path.with_extension("new");
    // A file of this name is half of one that a killed process wrote.
    remove_leftover(&fresh)?;
    let mut options = File::options();
    private(options.write(true).create_new(true));
    let mut file = options.open(&fresh)?;
    // Synced before the rename: after a power failure the name must not stand for an empty file.
    let written = file.write_all(content).and_then(|()| file.sync_all());
    let published = written.and_then(|()| std::fs::rename(&fresh, path));
    if published.is_err() {
        drop(std::fs::remove_file(&fresh));
    }
    published
}

/// Removes a file that a killed process may have left under a temporary name of its own; a missing
/// one is success.
///
/// # Errors
/// Any other error of the system.
pub fn remove_leftover(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Makes a folder as [`make_folder`], and gives its owner back the right to use it.
///
/// # Errors
/// As [`make_folder`].
pub fn keep_folder(path: &Path) -> io::Result<()> {
    make_folder(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
        let found = path.metadata()?;
        if found.mode() & 0o700 != 0o700 && found.uid() == rustix::process::geteuid().as_raw() {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?;
        }
    }
    Ok(())
}

/// Makes a folder that only its owner can enter, with those above it. A folder that exists stays,
/// also behind a link: a user may keep a large one on another disk.
///
/// # Errors
/// [`Misplaced`] when something else is there, or the error of the system.
pub fn make_folder(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|error| check_folder(path).err().unwrap_or(error))
}

#[cfg(unix)]
fn private(options: &mut OpenOptions) {
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
}

#[cfg(not(unix))]
fn private(_: &mut OpenOptions) {}

/// Returns options that neither wait for the other end of a FIFO nor follow a link.
#[cfg(unix)]
fn without_waiting(options: &OpenOptions, links: Links) -> OpenOptions {
    use rustix::fs::OFlags;
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = match links {
        Links::Followed => OFlags::NONBLOCK | OFlags::NOCTTY,
        Links::Refused => OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW,
    };
    let mut options = options.clone();
    options.custom_flags(flags.bits().cast_signed());
    options
}

#[cfg(not(unix))]
fn without_waiting(options: &OpenOptions, _: Links) -> OpenOptions {
    options.clone()
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A FIFO would keep a plain open waiting, and `/dev/zero` a plain read.
    #[test]
    fn special_files_are_refused_at_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        let made = std::process::Command::new("mkfifo").arg(at("fifo")).status();
        assert!(made.expect("mkfifo").success());
        let _listener = UnixListener::bind(at("socket")).expect("a socket");
        std::fs::create_dir(at("folder")).expect("made");
        std::fs::write(at("file"), "text").expect("written");
        for (name, to) in [("link", "file"), ("zero", "/dev/zero"), ("dangling", "none")] {
            symlink(to, at(name)).expect("linked");
        }
        for (name, what) in [
            ("fifo", "a FIFO"),
            ("socket", "a socket"),
            ("folder", "a directory"),
            ("link", "a symbolic link"),
            ("zero", "a symbolic link"),
            ("dangling", "a symbolic link"),
        ] {
            let path = at(name);
            let mut write = File::options();
            let results = [
                check(&path, Links::Refused).map(drop),
                read(&path, 9, Links::Refused).map(drop),
                open(&path, write.write(true).create(true), Links::Refused).map(drop),
                replace(&path, b"new"),
            ];
            for result in results {
                let fault = crate::paths::fault("open", &path, &result.expect_err(name));
                assert!(fault.message.ends_with(&format!("{what}, not a plain file")), "{fault}");
                assert!(fault.hint.contains("`mv "), "{fault}");
            }
            let folder = make_folder(&path).is_ok();
            assert_eq!(folder, name == "folder", "{name}");
        }
        assert!(!at("none").exists(), "no link was followed");
        let read = |name: &str| read(&at(name), 9, Links::Followed);
        assert_eq!(read("link").expect("read").as_deref(), Some(&b"text"[..]));
        assert!(read("fifo").is_err() && read("zero").is_err());
        assert_eq!(read("none").expect("nothing"), None);
    }

    #[test]
    fn files_are_replaced_whole_and_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("file");
        for text in ["first", "second"] {
            replace(&path, text.as_bytes()).expect("written");
            let found = read(&path, 9, Links::Refused).expect("read");
            assert_eq!(found.as_deref(), Some(text.as_bytes()));
        }
        assert_eq!(path.metadata().expect("there").permissions().mode() & 0o777, 0o600);
        let too_long = read(&path, 5, Links::Refused).expect_err("too long");
        assert_eq!(too_long.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 1);
    }
}
