//! History of a worktree's HEAD: the branches that were checked out there, and the commits that
//! only its reflog or its private refs hold.
//!
//! It reads the files of the administrative directory, so a worktree without commits of its own
//! costs no process. What the files do not answer is asked of git. What git cannot answer is never
//! reported as safe.

use std::collections::BTreeSet;
use std::path::Path;

use crate::core::event::Plan;
use crate::failpoint::guard;
use crate::world::fs::paths;
use crate::world::git::command::Git;
use crate::world::git::error::Error;
use crate::world::git::{reachability, refs};

/// Bytes that are read of a reflog, from its end.
const HISTORY_BYTES_MAX: u64 = 16 << 20;
/// Bound on the branches that one worktree is known to have been on.
const BRANCHES_MAX: usize = 200;
/// Object names per git call, which keeps the command line short.
const ARGUMENTS_MAX: usize = 200;
/// Bound on the recursion into folders of private refs.
const DEPTH_MAX: usize = 64;

/// Content of a worktree's administrative directory that concerns its HEAD.
#[derive(Debug, Default)]
pub(in crate::world) struct Heads {
    /// Branch that is checked out, without `refs/heads/`.
    pub(in crate::world) branch: Option<String>,
    /// Commit of a detached HEAD.
    pub(in crate::world) detached: Option<String>,
    /// Branches that were checked out here, including the present one.
    pub(in crate::world) branches: BTreeSet<String>,
    /// Commits that HEAD pointed to, from its reflog.
    past: BTreeSet<String>,
    /// Commits that private refs point to, or pointed to.
    private: BTreeSet<String>,
}

impl Heads {
    /// Reads an administrative directory; missing or damaged files contribute nothing.
    pub(in crate::world) fn read(admin: &Path) -> Self {
        let mut heads = Self::default();
        let text = refs::head_text(admin).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        match text.trim_end().strip_prefix("ref: ") {
            Some(name) => {
                heads.branch = name.trim().strip_prefix("refs/heads/").map(str::to_owned);
            }
            None => heads.detached = object_id(text.trim_end()),
        }
        heads.branches.extend(heads.branch.clone());
        heads.history(&history(&admin.join("logs/HEAD")));
        // What the last reset, rebase or merge left. Without a reflog nothing else knows it.
        heads.private.extend(object_id(first_line(&history(&admin.join("ORIG_HEAD")))));
        for name in ["refs/worktree", "refs/bisect", "refs/rewritten"] {
            heads.refs(&admin.join(name), 0);
            // Earlier values of such a ref are held by its reflog alone.
            heads.histories(&admin.join("logs").join(name), 0);
        }
        heads
    }

    /// Adds the reflog of a branch that is removed with the worktree: where HEAD has no reflog
    /// (`core.logAllRefUpdates=false`), only that one knows which commits were reset away.
    pub(in crate::world) fn with_history_of(mut self, common: &Path, branch: &str) -> Self {
        self.history(&history(&common.join("logs/refs/heads").join(branch)));
        self
    }

    fn history(&mut self, text: &str) {
        for line in text.lines() {
            let (places, message) = line.split_once('\t').unwrap_or((line, ""));
            let mut words = places.split(' ');
            self.past.extend(words.next().and_then(object_id));
            self.past.extend(words.next().and_then(object_id));
            // git writes this message on every switch; a detached HEAD appears as its object id.
            let Some(moved) = message.strip_prefix("checkout: moving from ") else { continue };
            let names = moved.split_once(" to ").map_or([moved, ""], |(from, to)| [from, to]);
            for name in names.into_iter().filter(|name| !name.is_empty()) {
                if self.branches.len() < BRANCHES_MAX && object_id(name).is_none() {
                    self.branches.insert(name.to_owned());
                }
            }
        }
    }

    fn refs(&mut self, folder: &Path, depth: usize) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                if depth < DEPTH_MAX {
                    self.refs(&path, depth + 1);
                }
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            self.private.extend(object_id(text.trim_end()));
        }
    }

    fn histories(&mut self, folder: &Path, depth: usize) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|t| t.is_dir()) {
                self.history(&history(&entry.path()));
            } else if depth < DEPTH_MAX {
                self.histories(&entry.path(), depth + 1);
            }
        }
    }

    /// Returns the tips of the branches that were checked out here, as far as they exist.
    pub(in crate::world) fn tips(&self, common: &Path) -> BTreeSet<String> {
        let tips = self.branches.iter();
        tips.filter_map(|name| refs::tip(common, &format!("refs/heads/{name}"))).collect()
    }

    /// Counts commits of `tips` that no branch, tag or remote has. The branches that were checked
    /// out here do not count as holders: they all follow the same branch policy.
    pub(in crate::world) fn unpushed(&self, git: &Git<'_>, tips: &[String]) -> Result<u64, Error> {
        let tips: Vec<&str> = tips.iter().map(String::as_str).collect();
        let but: Vec<&str> = self.branches.iter().map(String::as_str).collect();
        reachability::count_alone(git, &tips, &but)
    }

    /// Returns commits that only the reflog of HEAD or private refs hold: made detached and left,
    /// reset or amended away, or part of a bisect. `known` are certainly held elsewhere.
    ///
    /// # Errors
    /// When git cannot answer: then it is unknown what is held.
    pub(in crate::world) fn held_here_alone(
        &self,
        git: &Git<'_>,
        known: &BTreeSet<&str>,
    ) -> Result<Vec<String>, Error> {
        if !guard::stands("history") {
            return Ok(Vec::new());
        }
        let all = self.past.iter().chain(&self.private).collect::<BTreeSet<_>>();
        let asked: Vec<&String> = all.into_iter().filter(|c| !known.contains(c.as_str())).collect();
        let mut found = Vec::new();
        for some in asked.chunks(ARGUMENTS_MAX) {
            let some: Vec<&str> = some.iter().map(|commit| commit.as_str()).collect();
            let known: Vec<&str> = known.iter().copied().filter(|c| !c.is_empty()).collect();
            found.extend(reachability::list_alone(git, &some, &known)?);
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// Returns the commits of a detached HEAD, of its reflog and of private refs that no ref of the
    /// repository reaches, rescue refs included; bounded by what is read.
    ///
    /// # Errors
    /// When git cannot answer: then it is unknown what is held.
    pub(in crate::world) fn held_by_no_ref(&self, git: &Git<'_>) -> Result<Vec<String>, Error> {
        let all: BTreeSet<&String> =
            self.past.iter().chain(&self.private).chain(&self.detached).collect();
        let all: Vec<&str> = all.into_iter().map(String::as_str).collect();
        let mut found = Vec::new();
        for some in all.chunks(ARGUMENTS_MAX) {
            found.extend(reachability::list_unreferenced(git, some)?);
        }
        Ok(found)
    }
}

/// Returns the end of a reflog as text; a missing one is empty.
fn history(path: &Path) -> String {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(HISTORY_BYTES_MAX)))?;
        let mut bytes = Vec::new();
        file.take(HISTORY_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// Returns the object id in `text`, or `None` for anything else and for the null id.
fn object_id(text: &str) -> Option<String> {
    let fits = matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit());
    (fits && text.bytes().any(|b| b != b'0')).then(|| text.to_ascii_lowercase())
}

/// Returns the commits of the stashes that were made on the branch of an environment, newest last.
pub(in crate::world) fn stashes_of(plan: &Plan) -> Vec<String> {
    let common = paths::from_host(&plan.repository.common_dir);
    let log = std::fs::read(common.join("logs/refs/stash")).unwrap_or_default();
    let log = String::from_utf8_lossy(&log).into_owned();
    // git writes `On BRANCH: TEXT` for a stash with a message, `WIP on BRANCH: ...` without.
    let on = format!("n {}: ", plan.branch);
    let ours = log.lines().filter_map(|line| {
        let (place, message) = line.split_once('\t')?;
        let ours = message.split_once(&on).is_some_and(|(head, _)| ["O", "WIP o"].contains(&head));
        ours.then(|| place.split(' ').nth(1).unwrap_or_default().to_owned())
    });
    ours.filter(|commit| !commit.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_lists_branches_and_commits() {
        let dir = tempfile::tempdir().expect("a directory");
        let put = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, text).expect("written");
        };
        let [a, b, c, none] = ["a", "b", "c", "0"].map(|d| d.repeat(40));
        put("HEAD", "ref: refs/heads/side\n");
        let line = |from: &str, to: &str, why: &str| format!("{from} {to} T <t@e> 1 +0\t{why}\n");
        let log = line(&none, &a, "") + &line(&a, &b, "commit: x");
        put("logs/HEAD", &(log + &line(&b, &a, "checkout: moving from gk/x to side")));
        put("refs/bisect/bad", &format!("{c}\n"));
        let heads = Heads::read(dir.path());
        assert_eq!(heads.branch.as_deref(), Some("side"));
        assert_eq!(heads.branches, ["gk/x", "side"].map(str::to_owned).into());
        assert_eq!((heads.past, heads.private), ([a, b].into(), [c].into()));
        assert!(Heads::read(&dir.path().join("gone")).past.is_empty());
    }
}
