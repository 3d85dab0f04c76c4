//! Copying the git-ignored files that a repository names in `.worktreeinclude`.
//!
//! Only files that git ignores and the list names; never over an existing file, never through a
//! link, never out of the worktree. Copies share their blocks with the source where the file
//! system can. What is not copied is reported; it does not fail the provision.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use super::git::Git;
use super::included::{self, Recorder};
use super::marker::Admin;
use super::{Task, paths};
use crate::core::event::Included;
use crate::core::{Code, Fault, Outcome};
use crate::killpoint::point;

/// The file that names what to include, in gitignore syntax.
pub const LIST: &str = ".worktreeinclude";
/// Reasons that are kept; the rest is counted.
const SKIPPED_MAX: usize = 50;
const DEPTH_MAX: usize = 256;

/// Performs [`Step::CopyIncluded`](crate::core::Step::CopyIncluded).
pub(super) fn copy(task: &Task<'_>) -> Result<Outcome, Fault> {
    let env = task.env();
    let source = paths::from_host(&env.plan.repository.source);
    let target = paths::from_host(&env.plan.path);
    let git = Git::at(&source, Some(task.lock), task.cancel);
    let mut copier = Copier {
        task,
        source: source.canonicalize().map_err(paths::failed("find", &source))?,
        target: target.canonicalize().map_err(paths::failed("find", &target))?,
        reflink: true,
        done: Included::default(),
        more: 0,
        made: Recorder::default(),
    };
    for path in wanted(&git, &source)? {
        task.cancel.check()?;
        copier.copy(&path)?;
        point("include.copied_one");
    }
    // Before it is ready: what is changed from then on is work.
    copier.made.write(&Admin::of(task.log_id(), env).published, &copier.target)?;
    if copier.more > 0 {
        copier.done.skipped.push(format!("... and {} more", copier.more));
    }
    Ok(Outcome::Included(copier.done))
}

/// The paths that the list names and git ignores; a directory that is both as a whole is one.
fn wanted(git: &Git<'_>, source: &Path) -> Result<Vec<PathBuf>, Fault> {
    let mut named = std::ffi::OsString::from("--exclude-from=");
    named.push(source.join(LIST));
    let named = list(git, &named)?;
    let ignored = list(git, "--exclude-standard".as_ref())?;
    Ok(both(&named, &ignored).into_iter().map(|p| paths::from_bytes(p).to_owned()).collect())
}

/// Untracked paths that match some patterns, sorted; whole directories end in a slash.
fn list(git: &Git<'_>, patterns: &std::ffi::OsStr) -> Result<Vec<Vec<u8>>, Fault> {
    let mut command = git.command(["ls-files", "--others", "--ignored", "--directory", "-z"]);
    command.arg(patterns);
    let finished = git.run_command(command)?;
    if !finished.status.success() {
        return Err(super::git::said("git ls-files", &finished));
    }
    let paths = finished.stdout.split(|b| *b == 0).filter(|p| !p.is_empty());
    let mut paths: Vec<Vec<u8>> = paths.map(<[u8]>::to_vec).collect();
    paths.sort();
    Ok(paths)
}

/// What is in both of two sorted lists, where a directory stands for all below it.
fn both<'a>(a: &'a [Vec<u8>], b: &'a [Vec<u8>]) -> Vec<&'a [u8]> {
    let covered = |path: &[u8], by: &[Vec<u8>]| {
        by.binary_search_by(|p| p.as_slice().cmp(path)).is_ok()
            || path.iter().enumerate().any(|(n, byte)| {
                *byte == b'/' && by.binary_search_by(|p| p.as_slice().cmp(&path[..=n])).is_ok()
            })
    };
    let mut found: Vec<&[u8]> = a.iter().map(Vec::as_slice).filter(|p| covered(p, b)).collect();
    found.extend(b.iter().map(Vec::as_slice).filter(|p| covered(p, a)));
    found.sort_unstable();
    found.dedup();
    found
}

struct Copier<'a> {
    task: &'a Task<'a>,
    source: PathBuf,
    target: PathBuf,
    /// Cleared by the first refusal, so that not every file pays for trying.
    reflink: bool,
    done: Included,
    more: usize,
    made: Recorder,
}

impl Copier<'_> {
    fn skip(&mut self, path: &Path, why: &str) {
        if self.done.skipped.len() < SKIPPED_MAX {
            self.done.skipped.push(format!("{}: {why}", path.display()));
        } else {
            self.more += 1;
        }
    }

    fn copy(&mut self, path: &Path) -> Result<(), Fault> {
        if !path.components().all(|c| matches!(c, Component::Normal(_))) {
            self.skip(path, "is not a plain path");
            return Ok(());
        }
        match self.parents_are_real(path) {
            Ok(true) => self.entry(path, 0),
            Ok(false) => {
                self.skip(path, "lies behind a link");
                Ok(())
            }
            Err(e) => self.trouble(path, &e),
        }
    }

    /// Whether no directory on the way is a link, on either side; makes those of the target.
    fn parents_are_real(&self, path: &Path) -> io::Result<bool> {
        let parent = path.parent().unwrap_or(Path::new(""));
        let from = self.source.join(parent);
        let to = self.target.join(parent);
        let mut step = self.target.clone();
        for part in parent.components() {
            step.push(part);
            match std::fs::create_dir(&step) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                made => made?,
            }
            if !step.symlink_metadata()?.is_dir() {
                return Ok(false);
            }
        }
        Ok(from.canonicalize()? == from && to.canonicalize()? == to)
    }

    fn entry(&mut self, path: &Path, depth: usize) -> Result<(), Fault> {
        let from = self.source.join(path);
        let found = match from.symlink_metadata() {
            Ok(found) => found,
            Err(e) => return self.trouble(path, &e),
        };
        let kind = found.file_type();
        let copied = if kind.is_dir() {
            return self.directory(path, depth);
        } else if kind.is_symlink() {
            self.link(path)
        } else if kind.is_file() {
            self.file(path, &found)
        } else {
            self.skip(path, "is neither file, directory nor link");
            return Ok(());
        };
        match copied.and_then(|made| self.note(path, made)) {
            Ok(()) => Ok(()),
            Err(e) => self.trouble(path, &e),
        }
    }

    /// Notes what was made. An attempt that was interrupted made what is there already and equal.
    fn note(&mut self, path: &Path, made: bool) -> io::Result<()> {
        self.done.files += u64::from(made);
        let there = |copier: &Self| {
            let (from, to) = (copier.source.join(path), copier.target.join(path));
            included::is_same(&from, &to).unwrap_or(false)
        };
        if made || there(self) { self.made.note(&self.target, path) } else { Ok(()) }
    }

    fn directory(&mut self, path: &Path, depth: usize) -> Result<(), Fault> {
        self.task.cancel.check()?;
        if depth > DEPTH_MAX {
            self.skip(path, "is nested too deeply");
            return Ok(());
        }
        let to = self.target.join(path);
        match std::fs::create_dir(&to) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                if !to.symlink_metadata().is_ok_and(|m| m.is_dir()) {
                    self.skip(path, "something else is there");
                    return Ok(());
                }
            }
            Err(e) => return self.trouble(path, &e),
            Ok(()) => {}
        }
        let entries = match std::fs::read_dir(self.source.join(path)) {
            Ok(entries) => entries,
            Err(e) => return self.trouble(path, &e),
        };
        for entry in entries {
            match entry {
                Ok(entry) => self.entry(&path.join(entry.file_name()), depth + 1)?,
                Err(e) => self.trouble(path, &e)?,
            }
        }
        Ok(())
    }

    /// Under another name first, and given its own only when it is whole: a copy that was
    /// interrupted must never be taken for the file.
    fn file(&mut self, path: &Path, found: &std::fs::Metadata) -> io::Result<bool> {
        let (from, to) = (self.source.join(path), self.target.join(path));
        let mut part = std::ffi::OsString::from(".");
        part.push(path.file_name().unwrap_or_default());
        part.push(".gk-part");
        let part = to.with_file_name(part);
        paths::remove_file_if_any(&part)?;
        let filled = self.fill(&from, &part, found);
        let named = filled.and_then(|()| std::fs::hard_link(&part, &to));
        paths::remove_file_if_any(&part)?;
        match named {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                self.skip(path, "exists in the worktree");
                Ok(false)
            }
            named => {
                named?;
                self.done.bytes += found.len();
                Ok(true)
            }
        }
    }

    fn fill(&mut self, from: &Path, to: &Path, found: &std::fs::Metadata) -> io::Result<()> {
        if self.reflink {
            match reflink_copy::reflink(from, to) {
                Ok(()) => {
                    self.done.reflinked += 1;
                    return keep_time(to, found);
                }
                Err(_) => self.reflink = false,
            }
        }
        let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits();
        let flags = flags.cast_signed();
        let mut file = OpenOptions::new().read(true).custom_flags(flags).open(from)?;
        let mode = found.permissions().mode() & 0o777;
        let mut out = OpenOptions::new().write(true).create_new(true).mode(mode).open(to)?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            if self.task.cancel.is_cancelled() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let count = file.read(&mut buffer)?;
            if count == 0 {
                return keep_time(to, found);
            }
            out.write_all(&buffer[..count])?;
            point("include.inside_one");
        }
    }

    /// A link is copied as a link if it stays inside; one that leads out is not.
    fn link(&mut self, path: &Path) -> io::Result<bool> {
        let from = self.source.join(path);
        let points_to = std::fs::read_link(&from)?;
        let inside = !points_to.is_absolute()
            && from.canonicalize().is_ok_and(|real| real.starts_with(&self.source));
        if !inside {
            self.skip(path, "is a link that leaves the repository");
            return Ok(false);
        }
        match std::os::unix::fs::symlink(&points_to, self.target.join(path)) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                self.skip(path, "exists in the worktree");
                Ok(false)
            }
            made => made.map(|()| true),
        }
    }

    /// A full disk ends the copy; anything else is about one path.
    fn trouble(&mut self, path: &Path, error: &io::Error) -> Result<(), Fault> {
        self.task.cancel.check()?;
        let fault = paths::fault("copy", &self.source.join(path), error);
        if fault.code == Code::DiskFull {
            return Err(fault);
        }
        self.skip(path, &error.to_string());
        Ok(())
    }
}

/// Build tools decide by modification times; a copy is as old as its source.
fn keep_time(to: &Path, source: &std::fs::Metadata) -> io::Result<()> {
    let time = std::fs::FileTimes::new().set_modified(source.modified()?);
    File::open(to)?.set_times(time)
}

#[cfg(test)]
mod tests {
    use super::both;

    #[test]
    fn a_directory_stands_for_what_is_below_it() {
        let list = |text: &str| -> Vec<Vec<u8>> {
            text.split(' ').map(|p| p.as_bytes().to_vec()).collect()
        };
        let named = list(".env cache/ deep/a.env logs/x.log modules/");
        let ignored = list(".env cache/ deep/ logs/y.log modules/one modules/two/");
        let found: Vec<String> = both(&named, &ignored)
            .into_iter()
            .map(|p| String::from_utf8_lossy(p).into_owned())
            .collect();
        assert_eq!(found, [".env", "cache/", "deep/a.env", "modules/one", "modules/two/"]);
    }
}
