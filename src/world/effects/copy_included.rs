//! Copies the git-ignored files that a repository names in `.worktreeinclude`.
//!
//! Copies only files that git ignores and the list names; never over an existing file,
//! never through a symlink, never out of the worktree. Copies share their blocks with the
//! source where the file system supports it. Files that are not copied are reported; they
//! do not fail the provision.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::fd::AsRawFd as _;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use groundskeeper_system::linux_calls;
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, fstat, linkat, openat, readlinkat, statat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;

use crate::core::event::Included;
use crate::core::{Code, EnvironmentOutcome, Fault};
use crate::failpoint::guard;
use crate::failpoint::kill::point;
use crate::world::effects::context::Task;
use crate::world::effects::worktree_include::{has_list, wanted};
use crate::world::fs::beneath::{self, Mounts};
use crate::world::fs::paths;
use crate::world::git::command::Git;
use crate::world::git::marker::Admin;
use crate::world::status::copied_list::Recorder;
use crate::world::status::included_files;

/// Most reasons for skipped files that are kept; further ones are counted.
const SKIPPED_MAX: usize = 50;
const DEPTH_MAX: usize = 256;

/// Performs [`EnvironmentStep::CopyIncluded`](crate::core::EnvironmentStep::CopyIncluded).
pub(in crate::world) fn copy(task: &Task<'_>) -> Result<EnvironmentOutcome, Fault> {
    let env = task.env();
    let Some(source) = env.plan.repository.source.as_ref().map(paths::from_host) else {
        // A bare repository has no files to copy.
        return Ok(EnvironmentOutcome::Included(Included::default()));
    };
    let target = paths::from_host(&env.plan.path);
    let git = Git::at(&source, Some(task.lock), task.cancel);
    let mut copier = Copier {
        task,
        source: WorkingTree::open(&source)?,
        target: WorkingTree::open(&target)?,
        reflink: true,
        done: Included::default(),
        more: 0,
        made: Recorder::default(),
    };
    let paths = if has_list(&source) { wanted(&git, &source)? } else { Vec::new() };
    for path in paths {
        task.cancel.check()?;
        copier.copy(&path)?;
        point("include.copied_one");
    }
    // Before the environment is ready: any later change to these files is work.
    copier.made.write(&Admin::of(task.log_id(), env).published, &copier.target.path)?;
    if copier.more > 0 {
        copier.done.skipped.push(format!("... and {} more", copier.more));
    }
    Ok(EnvironmentOutcome::Included(copier.done))
}

struct Copier<'a> {
    task: &'a Task<'a>,
    source: WorkingTree,
    target: WorkingTree,
    /// Cleared when the file system first refuses, so that later files do not pay for the attempt.
    reflink: bool,
    done: Included,
    more: usize,
    made: Recorder,
}

/// A working tree: its path, and an open descriptor that all operations in it are relative to.
struct WorkingTree {
    path: PathBuf,
    open: OwnedFd,
}

impl WorkingTree {
    fn open(path: &Path) -> Result<Self, Fault> {
        let path = path.canonicalize().map_err(paths::failed("find", path))?;
        let open = beneath::open_root(&path).map_err(|e| paths::fault("open", &path, &e.into()))?;
        Ok(Self { path, open })
    }
}

/// One entry being copied: its open parent directories on both sides, and its name.
struct CopyPair<'a> {
    from: OwnedFd,
    to: OwnedFd,
    name: &'a OsStr,
}

impl Copier<'_> {
    fn skip(&mut self, path: &Path, why: &str) {
        if self.done.skipped.len() < SKIPPED_MAX {
            self.done.skipped.push(format!("{}: {why}", path.display()));
        } else {
            self.more += 1;
        }
    }

    fn copy(&mut self, path: &[u8]) -> Result<(), Fault> {
        // git ends a directory with a slash; with it, a symlink of that name would be followed.
        let path = paths::from_bytes(path.strip_suffix(b"/").unwrap_or(path));
        let plain = |c: Component<'_>| matches!(c, Component::Normal(n) if !is_git(n));
        if path.as_os_str().is_empty() || !path.components().all(plain) {
            self.skip(path, "is not a plain path");
            return Ok(());
        }
        self.entry(path, 0)
    }

    /// Opens the parent directories of an entry on both sides; creates those of the target.
    fn pair<'p>(&self, path: &'p Path) -> io::Result<CopyPair<'p>> {
        let parent = path.parent().unwrap_or(Path::new(""));
        let from = beneath::directory_in(self.source.open.as_fd(), parent, Mounts::Entered)?;
        let to = Self::folder(self.target.open.as_fd(), parent)?;
        Ok(CopyPair { from, to, name: path.file_name().unwrap_or_default() })
    }

    /// Opens a folder of the worktree, creating what is missing; never follows a symlink.
    fn folder(base: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
        if guard::stands("include") {
            return Ok(beneath::make_directory(base, path)?);
        }
        let below = std::fs::read_link(format!("/proc/self/fd/{}", base.as_raw_fd()))?;
        std::fs::create_dir_all(below.join(path))?;
        Ok(beneath::open_root(&below.join(path))?)
    }

    fn entry(&mut self, path: &Path, depth: usize) -> Result<(), Fault> {
        let pair = match self.pair(path) {
            Err(e) if beneath::is_link(&e) => {
                self.skip(path, "is behind a symbolic link");
                return Ok(());
            }
            Err(e) => return self.handle_error(path, &e),
            Ok(pair) => pair,
        };
        let found = match statat(&pair.from, pair.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => found,
            Err(e) => return self.handle_error(path, &e.into()),
        };
        let copied = match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => return self.directory(path, &pair, depth),
            FileType::Symlink => self.link(path, &pair),
            FileType::RegularFile => self.file(path, &pair),
            _ => {
                self.skip(path, "is neither file, directory nor link");
                return Ok(());
            }
        };
        match copied.and_then(|made| self.note(path, made)) {
            Ok(()) => Ok(()),
            Err(e) => self.handle_error(path, &e),
        }
    }

    /// Records what was copied. A file that exists already and equals the source was copied by an
    /// interrupted attempt, so it is recorded as well.
    fn note(&mut self, path: &Path, made: bool) -> io::Result<()> {
        self.done.files += u64::from(made);
        let there = |copier: &Self| {
            let (from, to) = (copier.source.path.join(path), copier.target.path.join(path));
            included_files::is_same(&from, &to).unwrap_or(false)
        };
        if made || there(self) { self.made.note(&self.target.path, path) } else { Ok(()) }
    }

    fn directory(&mut self, path: &Path, pair: &CopyPair<'_>, depth: usize) -> Result<(), Fault> {
        self.task.cancel.check()?;
        if depth > DEPTH_MAX {
            self.skip(path, "is nested too deeply");
            return Ok(());
        }
        let name = Path::new(pair.name);
        match Self::folder(pair.to.as_fd(), name) {
            Err(e) if beneath::is_link(&e) => {
                self.skip(path, "its path in the worktree is not a directory");
                return Ok(());
            }
            Err(e) => return self.handle_error(path, &e),
            Ok(_) => {}
        }
        let listed = beneath::directory_in(pair.from.as_fd(), name, Mounts::Entered)
            .and_then(|open| Dir::new(open)?.collect::<Result<Vec<_>, _>>());
        let entries = match listed {
            Ok(entries) => entries,
            Err(e) => return self.handle_error(path, &e.into()),
        };
        for entry in entries {
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                self.entry(&path.join(name), depth + 1)?;
            }
        }
        Ok(())
    }

    /// Copies a file under a temporary name, and links it to its own name only when it is
    /// complete: an interrupted copy must never be taken for the file. Unlike a rename, the
    /// link never replaces a file.
    fn file(&mut self, path: &Path, pair: &CopyPair<'_>) -> io::Result<bool> {
        let mut part = OsString::from(".");
        part.push(pair.name);
        part.push(".gk-part");
        // An interrupted attempt may have left one.
        unlink_if_any(&pair.to, &part)?;
        let filled = self.fill(pair, &part);
        let named = filled.and_then(|bytes| {
            linkat(&pair.to, &part, &pair.to, pair.name, AtFlags::empty())?;
            Ok(bytes)
        });
        unlink_if_any(&pair.to, &part)?;
        match named {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                self.skip(path, "exists in the worktree");
                Ok(false)
            }
            Err(e) => Err(e),
            Ok(bytes) => {
                self.is_inside(path, pair)?;
                self.done.bytes += bytes;
                Ok(true)
            }
        }
    }

    /// Copies into a new file of this name; returns its size in bytes.
    fn fill(&mut self, pair: &CopyPair<'_>, part: &OsStr) -> io::Result<u64> {
        // NONBLOCK: a file may have been replaced by a pipe, whose open would block.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = File::from(openat(&pair.from, pair.name, flags, Mode::empty())?);
        // Checked on the open descriptor: the name may refer to something else by now.
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::other("it was replaced during the copy"));
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = linux_calls::mode(found.permissions().mode() & 0o777);
        let mut out = File::from(openat(&pair.to, part, flags | OFlags::CLOEXEC, mode)?);
        if self.reflink && found.len() > 0 {
            if linux_calls::reflink(&out, &file).is_ok() {
                self.done.reflinked += 1;
                return keep_time(&out, &found).map(|()| found.len());
            }
            self.reflink = false;
        }
        let mut buffer = vec![0; 1 << 20];
        let mut bytes = 0;
        loop {
            if self.task.cancel.is_cancelled() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let count = file.read(&mut buffer)?;
            if count == 0 {
                return keep_time(&out, &found).map(|()| bytes);
            }
            out.write_all(&buffer[..count])?;
            bytes += count as u64;
            point("include.inside_one");
        }
    }

    /// Copies a symlink as a symlink if its target is inside the source; one
    /// that leads out is skipped.
    fn link(&mut self, path: &Path, pair: &CopyPair<'_>) -> io::Result<bool> {
        let points_to = readlinkat(&pair.from, pair.name, Vec::new())?;
        let points_to = paths::from_bytes(points_to.to_bytes());
        let real = self.source.path.join(path).canonicalize();
        let inside =
            !points_to.is_absolute() && real.is_ok_and(|real| real.starts_with(&self.source.path));
        if !inside {
            self.skip(path, "is a symbolic link that leaves the repository");
            return Ok(false);
        }
        match symlinkat(points_to, &pair.to, pair.name) {
            Err(Errno::EXIST) => {
                self.skip(path, "exists in the worktree");
                Ok(false)
            }
            made => {
                made?;
                self.is_inside(path, pair).map(|()| true)
            }
        }
    }

    /// Verifies that the directory that was written to is still at its path. If it was moved out of
    /// the worktree meanwhile, the entry is removed again.
    fn is_inside(&self, path: &Path, pair: &CopyPair<'_>) -> io::Result<()> {
        let parent = path.parent().unwrap_or(Path::new(""));
        let same = || -> io::Result<bool> {
            let there = beneath::directory_in(self.target.open.as_fd(), parent, Mounts::Entered)?;
            let (there, to) = (fstat(&there)?, fstat(&pair.to)?);
            Ok((there.st_dev, there.st_ino) == (to.st_dev, to.st_ino))
        };
        if same().unwrap_or(false) || !guard::stands("include") {
            return Ok(());
        }
        unlink_if_any(&pair.to, pair.name)?;
        Err(io::Error::other("its directory was moved during the copy"))
    }

    /// A full disk ends the copy; any other error concerns one path.
    fn handle_error(&mut self, path: &Path, error: &io::Error) -> Result<(), Fault> {
        self.task.cancel.check()?;
        let fault = paths::fault("copy", &self.source.path.join(path), error);
        if fault.code == Code::DiskFull {
            return Err(fault);
        }
        self.skip(path, &error.to_string());
        Ok(())
    }
}

/// Gives a copy the modification time of its source, because build tools decide by it.
fn keep_time(to: &File, source: &std::fs::Metadata) -> io::Result<()> {
    to.set_times(std::fs::FileTimes::new().set_modified(source.modified()?))
}

fn unlink_if_any(folder: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Err(Errno::NOENT) | Ok(()) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Ignores case, because some file systems do.
fn is_git(name: &OsStr) -> bool {
    name.eq_ignore_ascii_case(".git")
}
