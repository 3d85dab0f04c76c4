//! The name of a Unix socket in the file system: where it lies, how it is made, and what else may
//! have that name. It accepts no connection, and unlinks nothing but a socket without a listener.

use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener as Passed;
use std::path::{Path, PathBuf};

use groundskeeper_system::misplaced::kind;
use groundskeeper_system::own_file;
use sha2::Digest as _;
use tokio::net::UnixListener;

use crate::format::hex;
use crate::http::error::Error;
use crate::world::fs;
use crate::world::fs::data_dir::Layout;
use crate::world::fs::file_id::FileId;
use crate::world::fs::paths;

/// Length in bytes of a socket path that every supported system accepts.
const SOCKET_PATH_MAX: usize = 100;

/// Returns the socket path of a daemon of this data directory. The socket lies inside the
/// directory, or in the runtime directory when the path would be too long for a socket.
#[must_use]
pub fn address(layout: &Layout) -> PathBuf {
    address_in(layout.root(), "daemon.sock")
}

/// Returns the path of a socket with this name in a directory. Where that path is too long, returns
/// one in the runtime directory whose name contains a hash of the directory.
#[must_use]
pub fn address_in(dir: &Path, name: &str) -> PathBuf {
    let inside = dir.join(name);
    if inside.as_os_str().len() <= SOCKET_PATH_MAX {
        return inside;
    }
    let digest = sha2::Sha256::digest(paths::to_host(dir).as_bytes());
    let short = hex(&digest[..8]);
    let name = format!("{short}-{name}");
    let uid = rustix::process::getuid().as_raw();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let runtime = runtime.unwrap_or_else(std::env::temp_dir);
    runtime.join(format!("groundskeeper-{uid}")).join(name)
}

/// What has the name of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// The socket with this identity.
    Own,
    /// Another socket, or something that is none; holds what it is.
    Other(&'static str),
}

/// Returns what has the name of the socket with this identity. A listener keeps the inode of its
/// socket in use, so no other file gets that number while it listens.
///
/// # Errors
/// The error of the system.
pub(super) fn find(address: &Path, own: FileId) -> Result<Found, Error> {
    match address.symlink_metadata() {
        Ok(found) if found.file_type().is_socket() && FileId::of(&found) == own => Ok(Found::Own),
        Ok(found) if found.file_type().is_socket() => {
            Ok(Found::Other("a socket of another process"))
        }
        Ok(found) => Ok(Found::Other(kind(found.file_type()))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Found::Nothing),
        Err(e) => Err(fs::Error::about("inspect", address)(e).into()),
    }
}

/// Binds the socket with mode 0600 in a directory of this user with mode 0700, and returns its
/// identity. The caller holds the lock of the data directory, so a socket without a listener is
/// stale and is replaced. Anything else is left alone.
///
/// # Errors
/// If the directory is not this user's, something else has the name, or binding fails.
pub(super) fn bind(address: &Path) -> Result<(UnixListener, FileId), Error> {
    prepare_folder(address)?;
    remove_stale(address)?;
    // Bound under another name, so that no client can connect before the mode is set.
    let fresh = address.with_extension("new");
    own_file::remove_leftover(&fresh).map_err(fs::Error::about("remove", &fresh))?;
    let listener = UnixListener::bind(&fresh).map_err(fs::Error::about("listen on", &fresh))?;
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&fresh, mode)
        .map_err(fs::Error::about("restrict the mode of", &fresh))?;
    let made = fresh.symlink_metadata().map_err(fs::Error::about("inspect", &fresh))?;
    let published = publish(&fresh, address);
    if published.is_err() {
        drop(std::fs::remove_file(&fresh));
    }
    published.map_err(fs::Error::about("publish", address))?;
    Ok((listener, FileId::of(&made)))
}

/// Makes the folder of a socket, for this user alone.
fn prepare_folder(address: &Path) -> Result<(), Error> {
    let folder = address.parent().unwrap_or(address);
    own_file::make_folder(folder).map_err(fs::Error::about("create", folder))?;
    let found = folder.symlink_metadata().map_err(fs::Error::about("inspect", folder))?;
    if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
        return Err(Error::ForeignDirectory { path: folder.to_owned() });
    }
    if found.mode() & 0o077 != 0 {
        let mode = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(folder, mode)
            .map_err(fs::Error::about("restrict the mode of", folder))?;
    }
    Ok(())
}

/// Returns a listener at a socket that a service manager opened, the identity of its name, and
/// whether that name is the service manager's: where the name is gone, or leads to no listener any
/// more, it is made anew, and clients reach this process only.
///
/// # Errors
/// If the directory is not this user's, or another process listens at `address`.
pub(super) fn adopt(
    passed: &Passed,
    address: &Path,
) -> Result<(UnixListener, FileId, bool), Error> {
    prepare_folder(address)?;
    let listens = match probe(address) {
        Probe::Nothing => {
            let (listener, own) = bind(address)?;
            return Ok((listener, own, false));
        }
        Probe::Listener(pid) => pid,
    };
    // The same process opened both, so they are one: it has no other socket of this name.
    if let (Some(listens), Some(opener)) = (listens, opener(passed))
        && listens != opener
    {
        return Err(Error::OtherSocket { path: address.to_owned() });
    }
    let about = |e| fs::Error::about("take the socket", address)(e);
    let named = address.symlink_metadata().map_err(about)?;
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(address, mode).map_err(about)?;
    let listener = passed.try_clone().and_then(UnixListener::from_std).map_err(about)?;
    Ok((listener, FileId::of(&named), true))
}

/// Gives a socket its name, unless something else has got that name meanwhile.
fn publish(fresh: &Path, address: &Path) -> std::io::Result<()> {
    match std::fs::hard_link(fresh, address) {
        Ok(()) => std::fs::remove_file(fresh),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Err(e),
        // Not every file system gives a socket a second name.
        Err(_) => std::fs::rename(fresh, address),
    }
}

/// Removes a socket without a listener: a daemon that was killed leaves one.
fn remove_stale(address: &Path) -> Result<(), Error> {
    let Ok(found) = address.symlink_metadata() else { return Ok(()) };
    if !found.file_type().is_socket() {
        let kind = kind(found.file_type());
        return Err(Error::NotASocket { path: address.to_owned(), kind });
    }
    if matches!(probe(address), Probe::Listener(_)) {
        return Err(Error::OtherListener { path: address.to_owned() });
    }
    Ok(paths::remove_file_if_any(address).map_err(fs::Error::about("remove", address))?)
}

/// Returns the process that opened a listening socket; none that cannot be seen from here.
pub(crate) fn opener(listener: &Passed) -> Option<u32> {
    // The system tells it of a listener as of the other side of a connection.
    peer(listener.try_clone().ok()?.into())
}

/// Returns the process on the other side of a socket; none that cannot be seen from here.
fn peer(socket: OwnedFd) -> Option<u32> {
    let stream = std::os::unix::net::UnixStream::from(socket);
    stream.set_nonblocking(true).ok()?;
    let pid = tokio::net::UnixStream::from_std(stream).ok()?.peer_cred().ok()?.pid()?;
    u32::try_from(pid).ok().filter(|pid| *pid != 0)
}

/// Who listens at a socket.
enum Probe {
    /// Nothing has the name, or what had it has ended.
    Nothing,
    /// A process, with its pid if that can be seen.
    Listener(Option<u32>),
}

/// Returns whether a process listens at a socket, without waiting for it. Only a refused
/// connection, or a name that is gone, proves that there is none.
fn probe(address: &Path) -> Probe {
    use rustix::io::Errno;
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, connect, socket};
    let asked = || -> rustix::io::Result<Probe> {
        let probe = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
        rustix::io::fcntl_setfd(&probe, rustix::io::FdFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&probe, true)?;
        let to = SocketAddrUnix::new(address)?;
        match connect(&probe, &to) {
            Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(Probe::Nothing),
            Err(error) => Err(error),
            Ok(()) => Ok(Probe::Listener(peer(probe))),
        }
    };
    asked().unwrap_or(Probe::Listener(None))
}

/// Sets the times of a socket to the present: programs that clean `/tmp` or `/run` remove what is
/// old.
pub(super) fn touch(address: &Path) -> std::io::Result<()> {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    Ok(utimensat(CWD, address, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

    use super::*;

    /// A living listener of another process, a file and a link are left alone.
    #[tokio::test]
    async fn only_stale_socket_is_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().canonicalize().expect("real");
        let address = root.join("a.sock");
        let (listener, id) = bind(&address).expect("bound");
        assert_eq!(find(&address, id).expect("inspected"), Found::Own);
        let living = bind(&address).map(drop).expect_err("it is in use");
        assert!(matches!(living, Error::OtherListener { .. }), "{living}");
        drop(listener);
        let (_listener, again) = bind(&address).expect("stale");
        assert_eq!(find(&address, again).expect("inspected"), Found::Own);
        let modified = || address.symlink_metadata().and_then(|found| found.modified());
        let old = Timespec { tv_sec: 1, tv_nsec: 0 };
        let times = Timestamps { last_access: old, last_modification: old };
        utimensat(CWD, &address, &times, AtFlags::SYMLINK_NOFOLLOW).expect("dated");
        let before = modified().expect("inspected");
        touch(&address).expect("renewed");
        assert!(modified().expect("inspected") > before);
        std::fs::remove_file(&address).expect("removed");
        assert_eq!(find(&address, again).expect("inspected"), Found::Nothing);
        std::fs::write(&address, "theirs").expect("written");
        assert_eq!(find(&address, again).expect("inspected"), Found::Other("a plain file"));
        assert!(matches!(bind(&address), Err(Error::NotASocket { .. })));
        assert_eq!(std::fs::read(&address).expect("there"), b"theirs");
        assert_eq!(std::fs::read_dir(&root).expect("listed").count(), 1, "nothing is left");
    }
}
