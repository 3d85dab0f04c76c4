//! Refs, read and deleted without a process, where that is as safe as git itself: plain files
//! under git's own locks. Anything out of the ordinary is left to git, and said so.
//!
//! A removal would otherwise wait for three processes that each look at one line.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

use super::paths;
use crate::core::EnvironmentId;

/// A lock of git's on one file: nobody else may replace that while it is there.
struct Lock(PathBuf);

impl Lock {
    fn take(path: &Path) -> io::Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let lock = PathBuf::from(name);
        OpenOptions::new().write(true).create_new(true).open(&lock)?;
        Ok(Self(lock))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

/// The commit that a ref is at, if it is a plain file; none when only git can tell.
pub(super) fn loose(common: &Path, reference: &str) -> Option<String> {
    let text = std::fs::read_to_string(common.join(reference)).ok()?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    is_object_id(text).then(|| text.to_owned())
}

/// The commit that a ref is at, loose or packed; none when it is neither, or only git can tell.
pub(super) fn tip(common: &Path, reference: &str) -> Option<String> {
    if common.join(reference).exists() {
        return loose(common, reference);
    }
    let packed = std::fs::read_to_string(common.join("packed-refs")).ok()?;
    let found = packed.lines().find_map(|line| line.strip_suffix(reference)?.strip_suffix(' '));
    found.filter(|commit| is_object_id(commit)).map(str::to_owned)
}

fn is_object_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether a branch, tag or remote branch other than `but` is at exactly this commit, as far as
/// one look tells. False says nothing.
pub(super) fn is_held(common: &Path, commit: &str, first: &str, but: &str) -> bool {
    let holds = |name: &str| {
        let kind = ["refs/heads/", "refs/tags/", "refs/remotes/"];
        name != but && kind.iter().any(|k| name.starts_with(k))
    };
    if holds(first) && loose(common, first).as_deref() == Some(commit) {
        return true;
    }
    let packed = std::fs::read_to_string(common.join("packed-refs")).unwrap_or_default();
    packed.lines().any(|line| {
        // A loose file of the same name would be what counts.
        let named = line.strip_prefix(commit).and_then(|rest| rest.strip_prefix(' '));
        named.is_some_and(|name| holds(name) && !common.join(name).exists())
    })
}

/// Whether the first line of a branch's history says that this environment, in any of its lives,
/// made it.
pub(super) fn is_made_by(common: &Path, reference: &str, id: &EnvironmentId, log: &str) -> bool {
    let history = std::fs::read_to_string(common.join("logs").join(reference));
    let history = history.unwrap_or_default();
    let first = history.lines().next().and_then(|line| line.split('\t').next());
    let signed = first.and_then(|line| line.split_once('<')?.1.split_once('>')).map(|(s, _)| s);
    let end = format!(".{}@groundskeeper", log.get(..8).unwrap_or(log));
    let life = signed.and_then(|s| s.strip_suffix(&end)).and_then(|s| s.rsplit_once('.'));
    life.is_some_and(|(name, n)| name == id.as_str() && n.parse::<u32>().is_ok())
}

/// Deletes a branch that is a plain file at this commit, as git does: under the lock of the packed
/// refs and its own, with its history. False when git has to do it.
///
/// # Errors
/// What the system says; the branch is there then.
pub(super) fn delete_loose(common: &Path, reference: &str, commit: &str) -> io::Result<bool> {
    let file = common.join(reference);
    let packed = common.join("packed-refs");
    let taken = |lock: io::Result<Lock>| match lock {
        // Somebody holds it, or the ref was packed and its folder went with it.
        Err(e) if matches!(e.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {
            Ok(None)
        }
        lock => lock.map(Some),
    };
    let Some(_packed) = taken(Lock::take(&packed))? else { return Ok(false) };
    let Some(_own) = taken(Lock::take(&file))? else { return Ok(false) };
    let is_packed = match std::fs::read_to_string(&packed) {
        Ok(text) => text.lines().any(|l| l.split(' ').nth(1) == Some(reference)),
        Err(e) => e.kind() != io::ErrorKind::NotFound,
    };
    if is_packed || loose(common, reference).as_deref() != Some(commit) {
        return Ok(false);
    }
    paths::remove_file_if_any(&common.join("logs").join(reference))?;
    std::fs::remove_file(&file)?;
    Ok(true)
}

/// Whether there is a ref of this name, packed or not.
pub(super) fn exists(common: &Path, reference: &str) -> bool {
    common.join(reference).exists()
        || std::fs::read_to_string(common.join("packed-refs"))
            .is_ok_and(|text| text.lines().any(|l| l.split(' ').nth(1) == Some(reference)))
}
