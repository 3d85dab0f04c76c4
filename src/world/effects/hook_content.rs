//! The content of a hook: read once, hashed, and copied to where only we can change it. Decides
//! nothing about trust.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use groundskeeper_system::linux_calls;
use sha2::Digest as _;

use crate::core::{Code, Fault};
use crate::world::effects::context::Task;
use crate::world::fs::paths;
use crate::world::git::marker::Admin;

/// A larger file is no hook.
const HOOK_BYTES_MAX: u64 = 4 << 20;

/// The content of a hook, read once: the bytes that were hashed are the bytes that run.
pub(super) struct Content {
    pub(super) bytes: Vec<u8>,
    pub(super) hash: String,
    pub(super) executable: bool,
}

impl Content {
    pub(super) fn read(path: &Path) -> Result<Self, Fault> {
        // NONBLOCK: a file may have been replaced by a pipe, whose open would block.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let open =
            OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path);
        let strange = || {
            let (path, most) = (path.display(), HOOK_BYTES_MAX >> 20);
            let message = format!("{path} is not a regular file of at most {most} MiB");
            Fault::new(Code::HookFailed, message, "replace it with an executable regular file")
        };
        let file = match open {
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
                return Err(strange());
            }
            open => open.map_err(paths::failed("inspect", path))?,
        };
        let found = file.metadata().map_err(paths::failed("inspect", path))?;
        let mut bytes = Vec::new();
        if !found.is_file() {
            return Err(strange());
        }
        // Read with a bound instead of trusting the size: the file may grow meanwhile.
        let mut limited = file.take(HOOK_BYTES_MAX + 1);
        limited.read_to_end(&mut bytes).map_err(paths::failed("read", path))?;
        if bytes.len() as u64 > HOOK_BYTES_MAX {
            return Err(strange());
        }
        let hash = crate::format::hex(&sha2::Sha256::digest(&bytes));
        Ok(Self { bytes, hash, executable: found.permissions().mode() & 0o111 != 0 })
    }
}

/// A private copy of a hook, so that a change of the original after the check has no
/// effect; removed on drop.
pub(super) struct PrivateCopy(pub(super) PathBuf);

impl PrivateCopy {
    /// Writes the copy where programs may run: in the scratch folder, else in the
    /// administrative directory.
    pub(super) fn write(task: &Task<'_>, name: &str, content: &Content) -> Result<Self, Fault> {
        let env = task.env();
        let admin = Admin::of(task.log_id(), env).published;
        let folders = [task.layout().scratch(), admin];
        let runs = |folder: &&PathBuf| linux_calls::may_run_programs(folder);
        let folder = folders.iter().find(runs).ok_or_else(|| {
            let message = format!("cannot run the {name} hook: its file system is mounted noexec");
            let hint = "put the data directory on a file system that is mounted without noexec";
            Fault::new(Code::HookFailed, message, hint)
        })?;
        let copy = Self(folder.join(format!("{}.{}.{name}-hook", env.id, env.incarnation)));
        let path = &copy.0;
        paths::remove_file_if_any(path).map_err(paths::failed("remove", path))?;
        let open = OpenOptions::new().write(true).create_new(true).mode(0o700).open(path);
        let mut file = open.map_err(paths::failed("create", path))?;
        file.write_all(&content.bytes).map_err(paths::failed("write", path))?;
        Ok(copy)
    }
}

impl Drop for PrivateCopy {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}
