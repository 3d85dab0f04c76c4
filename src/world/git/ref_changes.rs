//! Creates, moves and deletes refs without a process, under locks that name their holder.
//!
//! A killed git leaves its locks for ever, and no program can tell whose they are: one lock on
//! `packed-refs` blocks every other deletion in the repository. Here the files are changed as git
//! changes them (`ref_files.rs`), and anything unusual is left to git. A ref is created only where
//! none exists, and deleted only where it points to the expected commit. Only refs that follow a
//! remote are ever moved.

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::world::fs;
use crate::world::fs::paths;
use crate::world::git::command::Git;
use crate::world::git::error::Error;
use crate::world::git::locks::{self, ExistingLock, Lock};
use crate::world::git::ref_files::{Attempt, RefFiles};
use crate::world::git::refs::{self, OURS};
use crate::world::process::subprocess;

/// Tries for a held lock, and the pause between two; git holds a lock for an instant.
const TRIES_MAX: u32 = 20;
const TURN: Duration = Duration::from_millis(10);
/// Age from which the lock of an existing ref counts as abandoned: git holds one for an instant.
const STALE: Duration = Duration::from_secs(60);

/// One ref of a repository that is to be created, moved or deleted.
pub(in crate::world) struct Change<'a> {
    pub(in crate::world) git: &'a Git<'a>,
    pub(in crate::world) common: &'a Path,
    pub(in crate::world) reference: &'a str,
    /// Attempts of this step before this one. With many, a lock is no longer waited for.
    pub(in crate::world) attempts: u32,
}

/// Outcome of the creation of a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::world) enum Made {
    Yes,
    /// A foreign branch of this name exists.
    Exists,
}

/// Removes a lock that a killed git left on a ref of ours, which would block it for ever. The
/// caller holds the environment's lock, which every git of ours that works on it inherits. A lock
/// on a missing ref is abandoned, since no other program uses such a ref. A lock on an existing one
/// may belong to a running `pack-refs`, so it must be old.
pub(in crate::world) fn break_stale(common: &Path, reference: &str) {
    locks::drop_if_dead(&locks::of(&common.join("packed-refs")));
    let file = common.join(reference);
    let lock = locks::of(&file);
    locks::drop_if_dead(&lock);
    let is_stale = || {
        let age = lock.metadata().and_then(|m| m.modified()).ok()?.elapsed().ok()?;
        Some(!file.exists() || age >= STALE)
    };
    if reference.starts_with(OURS) && is_stale() == Some(true) {
        tracing::warn!(lock = %lock.display(), "removed the lock of a killed git");
        drop(std::fs::remove_file(&lock));
    }
}

impl<'a> Change<'a> {
    fn files(&self) -> RefFiles<'a> {
        RefFiles { common: self.common, reference: self.reference }
    }

    /// Creates a change for its first attempt.
    pub(in crate::world) fn of(git: &'a Git<'a>, common: &'a Path, reference: &'a str) -> Self {
        Self { git, common, reference, attempts: 0 }
    }

    /// Deletes the ref with its history, if it points to `expected` where that is given.
    ///
    /// # Errors
    /// [`Error::Locked`] while a lock is in the way; the error of git or the system. The
    /// ref still exists then.
    pub(in crate::world) fn delete(&self, expected: Option<&str>) -> Result<(), Error> {
        break_stale(self.common, self.reference);
        let at = || refs::tip(self.common, self.reference);
        let expected = expected.map(str::to_owned).or_else(at);
        if let Some(at) = &expected {
            match self.repeated("delete", || self.files().delete(at))? {
                Attempt::Done => return Ok(()),
                Attempt::Held | Attempt::Exists | Attempt::LeftToGit => {}
            }
        }
        // `--no-deref`: the ref that a symbolic ref points to must stay.
        let args = ["update-ref", "--no-deref", "-d", self.reference];
        let args = args.into_iter().chain(expected.as_deref());
        self.by_git("delete", args)
    }

    /// Deletes like [`Change::delete`]. If a lasting lock blocks the deletion, the ref stays and
    /// the returned text names the lock.
    ///
    /// # Errors
    /// As [`Change::delete`].
    pub(in crate::world) fn delete_unless_locked(
        &self,
        expected: &str,
    ) -> Result<Option<String>, Error> {
        match self.delete(Some(expected)) {
            Err(Error::Locked { lock, is_lasting: true, .. }) => {
                Ok(Some(format!("{} was not deleted: {}", self.reference, lock.line())))
            }
            deleted => deleted.map(|()| None),
        }
    }

    /// Creates the ref, if the commit certainly exists. Returns whether the ref points to it now.
    ///
    /// # Errors
    /// As [`Change::delete`].
    pub(in crate::world) fn create(&self, commit: &str) -> Result<bool, Error> {
        break_stale(self.common, self.reference);
        let is_at = || refs::tip(self.common, self.reference).as_deref() == Some(commit);
        if is_at() {
            return Ok(true);
        }
        let made = self.is_there(commit)?
            && self.repeated("create", || self.files().create(commit))? == Attempt::Done;
        if made {
            return Ok(true);
        }
        // The null id as old value: git refuses if the ref exists.
        let zeros = "0".repeat(commit.len());
        let args = ["update-ref", "--no-deref", "-m", "groundskeeper"];
        let args = args.into_iter().chain([self.reference, commit, &zeros]);
        let made = self.git.run(args)?;
        Ok(made.status.success() || is_at())
    }

    /// Creates a branch at an existing commit. Its history begins with a signed line, the proof
    /// that it is ours. A branch that an interrupted attempt created counts as created.
    ///
    /// # Errors
    /// As [`Change::delete`]; also when git does not allow the name, or not beside another one.
    pub(in crate::world) fn create_branch(
        &self,
        commit: &str,
        signature: &str,
        why: &str,
    ) -> Result<Made, Error> {
        break_stale(self.common, self.reference);
        let zeros = "0".repeat(commit.len());
        let time = crate::clock::since_epoch().as_secs();
        let line = format!("{zeros} {commit} groundskeeper <{signature}> {time} +0000\t{why}\n");
        let files = || self.files().create_branch(commit, signature, &line);
        match self.repeated("create", files)? {
            Attempt::Done => return Ok(Made::Yes),
            Attempt::Exists => return Ok(self.made_before(signature)),
            Attempt::Held | Attempt::LeftToGit => {}
        }
        let args = ["update-ref", "--create-reflog", "-m", why, self.reference, commit, &zeros];
        let mut command = self.git.command(args);
        command.env("GIT_COMMITTER_NAME", "groundskeeper").env("GIT_COMMITTER_EMAIL", signature);
        let made = self.git.run_command(command)?;
        if made.status.success() {
            return Ok(Made::Yes);
        }
        if refs::exists(self.common, self.reference) {
            return Ok(self.made_before(signature));
        }
        Err(self.refused("create", Error::failed("git update-ref", &made)))
    }

    /// Moves a ref to an existing commit, or creates it there, as a fetch does; its history, if it
    /// has one, gets a line.
    ///
    /// # Errors
    /// As [`Change::delete`].
    pub(in crate::world) fn advance(&self, commit: &str) -> Result<(), Error> {
        break_stale(self.common, self.reference);
        if refs::is_another_name(self.common, self.reference) {
            return Err(Error::SymbolicRef { reference: self.reference.to_owned() });
        }
        let moved = self.repeated("move", || self.files().advance(commit))?;
        if moved == Attempt::Done {
            return Ok(());
        }
        self.by_git("move", ["update-ref", "--no-deref", "-m", "fetch", self.reference, commit])
    }

    fn made_before(&self, signature: &str) -> Made {
        let by = refs::signed_by(self.common, self.reference);
        if by.as_deref() == Some(signature) { Made::Yes } else { Made::Exists }
    }

    /// Removes the history that an interrupted attempt left of a branch which it never created.
    ///
    /// # Errors
    /// The error of the system.
    pub(in crate::world) fn forget_unmade(&self, signature: &str) -> Result<(), Error> {
        let log = self.common.join("logs").join(self.reference);
        let file = self.common.join(self.reference);
        if refs::signed_by(self.common, self.reference).as_deref() != Some(signature) {
            return Ok(());
        }
        let Ok(_lock) = Lock::take(&file) else { return Ok(()) };
        if refs::exists(self.common, self.reference) {
            return Ok(());
        }
        Ok(paths::remove_file_if_any(&log).map_err(fs::Error::about("remove", &log))?)
    }

    /// Repeats an attempt until no lock is in the way, for at most a fraction of a second.
    fn repeated(
        &self,
        what: &'static str,
        mut attempt: impl FnMut() -> io::Result<Attempt>,
    ) -> Result<Attempt, Error> {
        let path = self.common.join(self.reference);
        for _ in 0..TRIES_MAX {
            match attempt().map_err(fs::Error::about(what, &path))? {
                Attempt::Held => {
                    drop(subprocess::poll_all(&[self.git.cancel().as_fd()], TURN));
                    self.git.cancel().check()?;
                }
                other => return Ok(other),
            }
        }
        match self.locked(what) {
            Some(locked) => Err(locked),
            // The lock was released just now.
            None => Ok(Attempt::Held),
        }
    }

    fn by_git<'s>(&self, what: &str, args: impl IntoIterator<Item = &'s str>) -> Result<(), Error> {
        self.git.output(args).map(drop).map_err(|git_error| self.refused(what, git_error))
    }

    /// Returns the error of git, or the lock in its way.
    fn refused(&self, what: &str, git_error: Error) -> Error {
        let locked = if self.git.cancel().is_cancelled() { None } else { self.locked(what) };
        locked.unwrap_or(git_error)
    }

    fn locked(&self, what: &str) -> Option<Error> {
        let own = self.common.join(self.reference);
        let packed = self.common.join("packed-refs");
        // Only a deletion rewrites `packed-refs`.
        let places = [Some(own), Some(packed).filter(|_| what == "delete")];
        let existing =
            places.iter().flatten().filter_map(|path| ExistingLock::at(&locks::of(path)));
        let oldest = existing.max_by_key(|existing| existing.age)?;
        let what = format!("{what} {}", self.reference);
        let is_lasting = oldest.is_lasting(self.attempts);
        Some(Error::Locked { what, lock: Box::new(oldest), is_lasting })
    }

    /// Reports whether a commit exists: as a loose object, as the tip of a ref, or by git's word.
    fn is_there(&self, commit: &str) -> Result<bool, Error> {
        if !refs::is_object_id(commit) {
            return Ok(false);
        }
        let (folder, name) = commit.split_at(2);
        let loose = self.common.join("objects").join(folder).join(name);
        if loose.exists() || refs::is_held(self.common, commit, "", "") {
            return Ok(true);
        }
        Ok(self.git.run(["cat-file", "-e", &format!("{commit}^{{commit}}")])?.status.success())
    }
}

#[cfg(test)]
mod tests;
