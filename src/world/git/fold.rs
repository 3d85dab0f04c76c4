//! The fold: one ref that holds many commits, each under the name of the ref that it had before.
//!
//! The ref is at a short chain of commits. The parents of the last one are groups; the parents of a
//! group are the folded commits, and its message lists them. So everything folded is reachable for
//! every git, and an entry is added or removed by writing one or a few groups anew. No commit is
//! ever changed, and nothing is removed from the object database: a reader of the former fold finds
//! all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::core::event::FOLDED;
use crate::world::fs;
use crate::world::git::command::Git;
use crate::world::git::error::Error;
use crate::world::git::ref_changes;
use crate::world::git::refs;

/// Most entries of a group: a commit with more parents is slow to read for git.
pub(in crate::world) const GROUP_MAX: usize = 500;
/// Commits that are read by one git call.
const READ_AT_ONCE: usize = 100;
/// First lines of the messages, by which a fold and a group are recognised.
const FOLD_SUBJECT: &str = "rescues that groundskeeper keeps";
const GROUP_SUBJECT: &str = "a group of rescues";
/// Subject of the commits between the ref and the fold.
pub(super) const CHAIN_SUBJECT: &str = "leads to the rescues that groundskeeper keeps";
/// Number of those commits. A walk of git that excludes all refs, such as the check at the end of a
/// fetch, goes five commits further than it must. Where those are of the chain, it does not read
/// the groups, and thereby every rescue: 50 ms for 60,000 of them.
pub(super) const CHAIN: usize = 6;
/// Who made the commit, and when: a walk by date comes to the oldest commit last.
const SIGNATURE: &str = "groundskeeper <rescue@groundskeeper> 1 +0000";

/// The content of a fold.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::world) struct Fold {
    /// The commit that the ref is at; none while there is no fold.
    pub(in crate::world) tip: Option<String>,
    groups: Vec<Group>,
    /// The objects that make up the fold as it was read, and what was written since.
    own: BTreeSet<String>,
}

/// One group: its commit, if it is written already, and its entries by the name of the former ref.
#[derive(Debug, Default, PartialEq, Eq)]
struct Group {
    commit: Option<String>,
    entries: BTreeMap<String, String>,
}

impl Group {
    fn new(entries: BTreeMap<String, String>) -> Self {
        Self { commit: None, entries }
    }
}

impl Fold {
    /// Reads the fold that a ref holds.
    ///
    /// # Errors
    /// Those of git, and [`Error::NotAFold`] when the ref is at anything else.
    pub(in crate::world) fn read(
        git: &Git<'_>,
        common: &Path,
        reference: &str,
    ) -> Result<Self, Error> {
        let odd = || Error::NotAFold { reference: reference.to_owned() };
        let Some(tip) = refs::tip(common, reference) else {
            // A broken or symbolic ref must not pass for a missing one.
            return if refs::exists(common, reference) { Err(odd()) } else { Ok(Self::default()) };
        };
        let mut top = read_commit(git, &tip)?.ok_or_else(odd)?;
        let mut own = BTreeSet::from([tip.clone()]);
        for _ in 0..CHAIN {
            let next = top.parents.first().filter(|_| top.subject() == CHAIN_SUBJECT);
            let Some(next) = next else { break };
            own.insert(next.clone());
            top = read_commit(git, next)?.ok_or_else(odd)?;
        }
        if top.subject() != FOLD_SUBJECT {
            return Err(odd());
        }
        let mut groups = Vec::with_capacity(top.parents.len());
        for some in top.parents.chunks(READ_AT_ONCE) {
            for group in read_commits(git, some)? {
                groups.push(group.into_group().ok_or_else(odd)?);
            }
        }
        if groups.len() != top.parents.len() {
            return Err(odd());
        }
        own.extend(top.parents);
        Ok(Self { tip: Some(tip), groups, own })
    }

    /// Returns the objects that make up the fold, and those of the one that it was made from. They
    /// list rescues, and hold nothing of the user's.
    pub(in crate::world) fn own_objects(&self) -> &BTreeSet<String> {
        &self.own
    }

    /// Returns the commit that was folded under this name.
    pub(in crate::world) fn commit_of(&self, name: &str) -> Option<&str> {
        self.groups.iter().find_map(|group| group.entries.get(name)).map(String::as_str)
    }

    /// Returns whether any entry is this commit.
    pub(in crate::world) fn holds(&self, commit: &str) -> bool {
        self.entries().any(|(_, held)| held == commit)
    }

    /// Returns all entries: the name of the former ref, and the commit.
    pub(in crate::world) fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        let entries = self.groups.iter().flat_map(|group| &group.entries);
        entries.map(|(name, commit)| (name.as_str(), commit.as_str()))
    }

    /// Returns whether nothing is folded.
    pub(in crate::world) fn is_empty(&self) -> bool {
        self.groups.iter().all(|group| group.entries.is_empty())
    }

    /// Adds entries. One of the same name is replaced. Small groups at the end are joined with the
    /// new one, so that few are small and each entry is written a few times at most.
    pub(in crate::world) fn add(&mut self, mut entries: BTreeMap<String, String>) {
        entries.retain(|name, commit| self.commit_of(name) != Some(commit));
        let names: BTreeSet<&str> = entries.keys().map(String::as_str).collect();
        self.remove(&names);
        while !entries.is_empty() {
            let rest = entries.keys().nth(GROUP_MAX).cloned();
            let rest = rest.map(|first| entries.split_off(&first)).unwrap_or_default();
            let mut group = Group::new(entries);
            while let Some(last) = self.groups.pop_if(|last| {
                let both = last.entries.len() + group.entries.len();
                both <= GROUP_MAX && last.entries.len() <= 2 * group.entries.len()
            }) {
                group.entries.extend(last.entries);
            }
            self.groups.push(group);
            entries = rest;
        }
    }

    /// Makes the next [`Fold::write`] write every commit, the same as before.
    pub(in crate::world) fn forget_written(&mut self) {
        self.groups.iter_mut().for_each(|group| group.commit = None);
    }

    /// Removes the entries of these names. Returns whether there were any.
    pub(in crate::world) fn remove(&mut self, names: &BTreeSet<&str>) -> bool {
        let mut removed = false;
        for group in &mut self.groups {
            let before = group.entries.len();
            group.entries.retain(|name, _| !names.contains(name.as_str()));
            if group.entries.len() != before {
                group.commit = None;
                removed = true;
            }
        }
        self.groups.retain(|group| !group.entries.is_empty());
        removed
    }

    /// Writes what is not written yet, and returns the commit that holds it all. No ref is changed.
    ///
    /// # Errors
    /// Those of git and of the system.
    pub(in crate::world) fn write(
        &mut self,
        git: &Git<'_>,
        scratch: &Path,
    ) -> Result<String, Error> {
        let tree = write_object(git, "tree", scratch, "")?;
        for group in self.groups.iter_mut().filter(|group| group.commit.is_none()) {
            let parents: BTreeSet<&str> = group.entries.values().map(String::as_str).collect();
            let lines = group.entries.iter().map(|(name, commit)| format!("{commit} {name}\n"));
            let message = format!("{GROUP_SUBJECT}\n\n{}", lines.collect::<String>());
            let text = commit_text(&tree, parents, &message);
            let made = write_object(git, "commit", scratch, &text)?;
            self.own.insert(made.clone());
            group.commit = Some(made);
        }
        let parents = self.groups.iter().filter_map(|group| group.commit.as_deref());
        let message = format!(
            "{FOLD_SUBJECT}\n\nEach parent is a group, whose message names the rescues in it and \
             the refs that held them.\n`groundskeeper rescue ls` lists them; `groundskeeper \
             rescue drop ID` removes one.\n"
        );
        let mut tip = write_object(git, "commit", scratch, &commit_text(&tree, parents, &message))?;
        self.own.insert(tip.clone());
        for _ in 0..CHAIN {
            let text = commit_text(&tree, [tip.as_str()], &format!("{CHAIN_SUBJECT}\n"));
            tip = write_object(git, "commit", scratch, &text)?;
            self.own.insert(tip.clone());
        }
        Ok(tip)
    }
}

/// A commit as git prints it.
pub(super) struct ReadCommit {
    id: String,
    pub(super) parents: Vec<String>,
    message: String,
}

impl ReadCommit {
    pub(super) fn subject(&self) -> &str {
        self.message.lines().next().unwrap_or_default()
    }

    /// Reads the list in the message; none if it does not name exactly the parents.
    fn into_group(self) -> Option<Group> {
        if self.subject() != GROUP_SUBJECT {
            return None;
        }
        let lines = self.message.lines().skip(1).filter(|line| !line.is_empty());
        let entry = |line: &str| {
            let (commit, name) = line.split_once(' ')?;
            refs::is_object_id(commit).then(|| (name.to_owned(), commit.to_owned()))
        };
        let entries: BTreeMap<String, String> = lines.map(entry).collect::<Option<_>>()?;
        let named: BTreeSet<&String> = entries.values().collect();
        let fits = named == self.parents.iter().collect() && !entries.is_empty();
        fits.then_some(Group { commit: Some(self.id), entries })
    }
}

/// Reads commits, in the order of their ids.
fn read_commits(git: &Git<'_>, ids: &[String]) -> Result<Vec<ReadCommit>, Error> {
    let format = "--format=%x01%H%x02%P%x02%B";
    let args = ["rev-list", "--no-walk=unsorted", "--no-commit-header", "--encoding=UTF-8", format];
    let listed = git.output(args.into_iter().chain(ids.iter().map(String::as_str)))?;
    let text = String::from_utf8_lossy(&listed);
    let read = |part: &str| {
        let mut fields = part.splitn(3, '\x02');
        let (id, parents, message) = (fields.next()?, fields.next()?, fields.next()?);
        let parents = parents.split(' ').filter(|p| !p.is_empty()).map(str::to_owned).collect();
        Some(ReadCommit { id: id.to_owned(), parents, message: message.to_owned() })
    };
    Ok(text.split('\x01').filter_map(read).collect())
}

pub(super) fn read_commit(git: &Git<'_>, id: &str) -> Result<Option<ReadCommit>, Error> {
    Ok(read_commits(git, &[id.to_owned()])?.pop())
}

fn commit_text<'a>(
    tree: &str,
    parents: impl IntoIterator<Item = &'a str>,
    message: &str,
) -> String {
    let parents = parents.into_iter();
    let parents = parents.fold(String::new(), |text, id| text + &format!("parent {id}\n"));
    format!("tree {tree}\n{parents}author {SIGNATURE}\ncommitter {SIGNATURE}\n\n{message}")
}

/// Writes one object durably, through a file of ours, since stdin is the lock of the effect.
fn write_object(git: &Git<'_>, kind: &str, scratch: &Path, text: &str) -> Result<String, Error> {
    std::fs::write(scratch, text).map_err(fs::Error::about("write", scratch))?;
    let args = ["-c", "core.fsync=all", "hash-object", "-w", "--no-filters", "-t", kind, "--"];
    let mut command = git.command(args);
    command.arg(scratch);
    git.line_of("git hash-object", command)
}

/// Moves the ref of a fold, durably and only from its old value. It has no history, which would
/// hold what was dropped.
///
/// # Errors
/// Those of git.
pub(in crate::world) fn advance(
    git: &Git<'_>,
    common: &Path,
    reference: &str,
    commit: &str,
    old: Option<&str>,
) -> Result<(), Error> {
    debug_assert!(reference.starts_with(FOLDED));
    ref_changes::break_stale(common, reference);
    let zeros = "0".repeat(commit.len());
    let settings = ["-c", "core.fsync=all", "-c", "core.logAllRefUpdates=false"];
    let update = ["update-ref", "--no-deref", reference, commit, old.unwrap_or(&zeros)];
    git.output(settings.into_iter().chain(update)).map(drop)
}

/// Returns those of these commits that exist.
///
/// # Errors
/// Those of git.
pub(in crate::world) fn existing(
    git: &Git<'_>,
    commits: &BTreeSet<&str>,
) -> Result<BTreeSet<String>, Error> {
    let mut found = BTreeSet::new();
    let all: Vec<&str> = commits.iter().copied().collect();
    for some in all.chunks(READ_AT_ONCE) {
        let args = ["rev-list", "--no-walk=unsorted", "--ignore-missing"];
        let listed = git.output(args.into_iter().chain(some.iter().copied()))?;
        found.extend(String::from_utf8_lossy(&listed).lines().map(str::to_owned));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(range: std::ops::Range<usize>) -> BTreeMap<String, String> {
        range.map(|n| (format!("refs/r/{n:06}"), format!("{n:040x}"))).collect()
    }

    fn written(fold: &mut Fold) -> usize {
        let fresh = fold.groups.iter_mut().filter(|group| group.commit.is_none());
        fresh.map(|group| group.commit = Some("written".to_owned())).count()
    }

    /// However many are folded, in whatever portions: groups stay bounded and few, and all are
    /// found.
    #[test]
    fn groups_stay_few_and_bounded() {
        let mut fold = Fold::default();
        let (mut count, mut writes) = (0, 0);
        for portion in [1, 9, 9, 500, 3, 1_200].into_iter().cycle().take(120) {
            fold.add(entries(count..count + portion));
            count += portion;
            writes += written(&mut fold);
        }
        let sizes: Vec<usize> = fold.groups.iter().map(|group| group.entries.len()).collect();
        assert_eq!(sizes.iter().sum::<usize>(), count);
        assert!(sizes.iter().all(|n| (1..=GROUP_MAX).contains(n)), "{sizes:?}");
        assert!(sizes.len() <= 2 * count / GROUP_MAX + 10, "{} groups", sizes.len());
        assert!(writes <= 3 * 120, "{writes} groups were written");
        assert!((0..count).all(|n| fold.commit_of(&format!("refs/r/{n:06}")).is_some()));
    }

    #[test]
    fn removal_rewrites_one_group() {
        let mut fold = Fold::default();
        fold.add(entries(0..2_000));
        written(&mut fold);
        assert!(fold.remove(&BTreeSet::from(["refs/r/000700"])));
        assert_eq!(fold.commit_of("refs/r/000700"), None);
        assert_eq!(written(&mut fold), 1);
        assert!(!fold.remove(&BTreeSet::from(["refs/r/000700"])), "it is gone");
        assert_eq!(written(&mut fold), 0);
    }

    /// A rescue that was made again has another commit under the same name.
    #[test]
    fn entry_of_same_name_is_replaced() {
        let mut fold = Fold::default();
        fold.add(entries(0..10));
        written(&mut fold);
        fold.add(entries(3..6));
        assert_eq!(written(&mut fold), 0, "nothing is new");
        fold.add(BTreeMap::from([("refs/r/000004".to_owned(), "f".repeat(40))]));
        assert_eq!(fold.commit_of("refs/r/000004"), Some("f".repeat(40).as_str()));
        let all: usize = fold.groups.iter().map(|group| group.entries.len()).sum();
        assert_eq!(all, 10);
    }

    #[test]
    fn group_names_exactly_its_parents() {
        let (one, two) = ("1".repeat(40), "2".repeat(40));
        let read = |parents: &[&String], message: String| {
            let parents = parents.iter().map(|p| (*p).clone()).collect();
            ReadCommit { id: "c".repeat(40), parents, message }.into_group().is_some()
        };
        let listed = format!("{GROUP_SUBJECT}\n\n{one} refs/a\n{two} refs/b\n");
        assert!(read(&[&one, &two], listed.clone()));
        assert!(!read(&[&one], listed.clone()), "a listed commit is no parent");
        assert!(!read(&[&one, &two], format!("{GROUP_SUBJECT}\n\n{one} refs/a\n")));
        assert!(!read(&[&one, &two], listed.replace(GROUP_SUBJECT, "other")));
    }
}
