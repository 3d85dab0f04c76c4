//! Making a fresh checkout of git's as old as it has to be, so that no later status reads files
//! again whose time is that of the index ("racy git").
//!
//! Only for a working tree that nobody else has seen: what its files were written with is then
//! known to be what the index says. Nothing is changed where the index is not understood.

use std::io;
use std::path::Path;
use std::time::SystemTime;

use super::{Hash, Stat, read};
use crate::world::paths;

/// Sets the files whose time is that of the index back to `when`, and the index with them. False
/// when the index is not one to do that with.
///
/// # Errors
/// What the system says; the index is whole all the same.
pub(in crate::world) fn settle(
    admin_dir: &Path,
    target: &Path,
    hash: Hash,
    when: SystemTime,
) -> io::Result<bool> {
    let path = admin_dir.join("index");
    let mut bytes = std::fs::read(&path)?;
    let written = Stat::of(&path.symlink_metadata()?).mtime.0;
    let mut young = Vec::new();
    let mut plain = true;
    let understood = read::each(&bytes, hash, |entry| {
        plain &= !entry.unsettled;
        // git compares whole seconds. A submodule has no stat data to compare.
        if entry.stat.mtime.0 >= written && entry.mode != 0o160_000 && !entry.hidden {
            young.push((entry.at, target.join(paths::from_bytes(entry.path)), entry.stat));
        }
    });
    let body = bytes.len().saturating_sub(hash.bytes());
    // Some repositories have git leave the sum out.
    let summed = bytes[body..].iter().any(|b| *b != 0);
    if understood.is_none() || !plain {
        return Ok(false);
    }
    for (at, file, remembered) in young {
        let found = Stat::of(&file.symlink_metadata()?);
        if !found.is(&remembered) {
            return Ok(false);
        }
        paths::set_modified(&file, when)?;
        Stat::of(&file.symlink_metadata()?).put(&mut bytes, at);
    }
    if summed {
        let sum = hash.of(&[&bytes[..body]]);
        bytes[body..].copy_from_slice(&sum);
    }
    // The name that git itself would use; nobody else is here yet.
    let lock = admin_dir.join("index.lock");
    let installed = std::fs::write(&lock, &bytes).and_then(|()| std::fs::rename(&lock, &path));
    if installed.is_err() {
        // Left behind, it would stand in the way of every later git.
        drop(std::fs::remove_file(&lock));
    }
    installed.map(|()| true)
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::*;

    fn git(at: &Path, args: &[&str]) -> Vec<u8> {
        let done = Command::new("git").arg("-C").arg(at).args(args).output().expect("git runs");
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
        done.stdout
    }

    #[test]
    fn a_settled_index_is_gits_own_and_reads_no_file() {
        for (version, skip) in [("2", "false"), ("4", "false"), ("4", "true")] {
            let dir = tempfile::tempdir().expect("a directory");
            let at = dir.path();
            git(at, &["init", "-q"]);
            git(at, &["config", "index.version", version]);
            git(at, &["config", "index.skipHash", skip]);
            std::fs::create_dir_all(at.join("folder")).expect("made");
            for name in ["a", "folder/b", "folder/ü"] {
                std::fs::write(at.join(name), name).expect("written");
            }
            std::os::unix::fs::symlink("nowhere", at.join("link")).expect("linked");
            git(at, &["add", "-A"]);
            git(at, &["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all"]);
            let when = SystemTime::now() - Duration::from_secs(2);
            assert!(settle(&at.join(".git"), at, Hash::Sha1, when).expect("settled"));
            // A status that could not trust the times would write the index anew.
            let before = std::fs::read(at.join(".git/index")).expect("read");
            git(at, &["fsck"]);
            assert_eq!(git(at, &["status", "--porcelain"]), b"");
            assert_eq!(git(at, &["diff-files"]), b"", "stat data as git would have it");
            let mut young = 0;
            let count = |entry: read::Listed<'_>| {
                let index = Stat::of(&at.join(".git/index").metadata().expect("there")).mtime;
                young += u32::from(entry.stat.mtime.0 >= index.0);
            };
            assert!(read::each(&before, Hash::Sha1, count).is_some());
            assert_eq!(young, 0, "version {version}");
            // One that was changed meanwhile is not declared clean.
            std::fs::write(at.join("a"), "b").expect("written");
            assert_eq!(git(at, &["status", "--porcelain"]), b" M a\n");
        }
    }
}
