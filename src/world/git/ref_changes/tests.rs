//! Ref changes in real repositories: the result equals that of git, and locks of others stay.

use std::path::PathBuf;

use super::*;
use crate::core::{Code, Fault};
use crate::world::git::error::Reason;

/// A repository with one commit, and the token that cancels its gits.
struct Place {
    dir: tempfile::TempDir,
    cancel: crate::world::process::cancel::Cancel,
    commit: String,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let cancel = crate::world::process::cancel::Cancel::new().expect("a cancel");
        let git = Git::at(dir.path(), None, &cancel);
        git.output(["init", "-q", "--initial-branch=main"]).expect("made");
        let tree = git.line(["write-tree"]).expect("a tree");
        let who = ["-c", "user.name=t", "-c", "user.email=t@example.org"];
        let args = who.into_iter().chain(["commit-tree", "-m", "first", tree.as_str()]);
        let commit = git.line(args).expect("a commit");
        git.output(["update-ref", "refs/heads/main", &commit]).expect("made");
        Self { dir, cancel, commit }
    }

    fn common(&self) -> PathBuf {
        self.dir.path().join(".git")
    }

    fn git(&self) -> Git<'_> {
        Git::at(self.dir.path(), None, &self.cancel)
    }

    fn change<T>(&self, reference: &str, change: impl FnOnce(&Change<'_>) -> T) -> T {
        let (git, common) = (self.git(), self.common());
        change(&Change::of(&git, &common, reference))
    }

    fn at(&self, reference: &str) -> Option<String> {
        let found = self.git().run(["rev-parse", "--verify", "--quiet", reference]);
        let found = found.expect("asked");
        let text = String::from_utf8_lossy(&found.stdout).trim_end().to_owned();
        found.status.success().then_some(text)
    }

    fn lock_files(&self) -> Vec<PathBuf> {
        locks::in_repository(&self.common()).into_iter().map(|found| found.path).collect()
    }
}

const WHO: &str = "a.1.0123.4567@groundskeeper";

/// Repeating an own earlier attempt succeeds; an existing branch of another stays.
#[test]
fn branch_creation_matches_git_without_overwrite() {
    let place = Place::new();
    let make = |name: &str, who: &str| {
        place.change(name, |change| change.create_branch(&place.commit, who, "created"))
    };
    assert_eq!(make("refs/heads/gk/a", WHO).expect("made"), Made::Yes);
    assert_eq!(place.at("refs/heads/gk/a"), Some(place.commit.clone()));
    let signed = place.git().line(["reflog", "show", "--format=%ge %gs", "gk/a"]);
    assert_eq!(signed.expect("a history"), format!("{WHO} created"));
    assert_eq!(
        make("refs/heads/gk/a", WHO).expect("known"),
        Made::Yes,
        "an own earlier attempt succeeds"
    );
    assert_eq!(make("refs/heads/gk/a", "b@e").expect("known"), Made::Exists);
    assert_eq!(make("refs/heads/main", WHO).expect("known"), Made::Exists);
    for packed in [false, true] {
        if packed {
            place.git().output(["pack-refs", "--all"]).expect("packed");
        }
        assert_eq!(make("refs/heads/gk/a", "b@e").expect("known"), Made::Exists);
        for beside in ["refs/heads/gk", "refs/heads/gk/a/b", "refs/heads/main/x"] {
            let refused = make(beside, WHO).expect_err("beside another");
            assert_eq!(refused.reason(), Some(Reason::NameTaken), "{refused:?}");
        }
    }
    for bad in ["refs/heads/a..b", "refs/heads/a b", "refs/heads/../../x", "refs/heads/x.lock"] {
        let refused = make(bad, WHO).expect_err("a bad name");
        assert_eq!(refused.reason(), Some(Reason::BadName), "{refused:?}");
    }
    assert!(!place.dir.path().join("x").exists());
    assert_eq!(place.lock_files(), Vec::<PathBuf>::new());
}

/// An earlier branch of this name has left its reflog, which is kept.
#[test]
fn interrupted_branch_creation_completes_or_reverts() {
    let place = Place::new();
    let name = "refs/heads/gk/a";
    let log = place.common().join("logs").join(name);
    std::fs::create_dir_all(log.parent().expect("a folder")).expect("made");
    let line = |who: &str| {
        format!("{} {} groundskeeper <{who}> 1 +0000\tcreated\n", "0".repeat(40), place.commit)
    };
    // An earlier branch of this name, since deleted, has left its history.
    std::fs::write(&log, line("old@e") + &line(WHO)).expect("written");
    let made = place.change(name, |change| change.create_branch(&place.commit, WHO, "created"));
    assert_eq!(made.expect("made"), Made::Yes);
    assert_eq!(std::fs::read_to_string(&log).expect("read"), line("old@e") + &line(WHO));
    place.change(name, |change| change.forget_unmade(WHO)).expect("inspected");
    assert!(log.exists(), "the branch exists");
    place.change(name, |change| change.delete(Some(&place.commit))).expect("deleted");
    assert!(!log.exists());
    std::fs::write(&log, line(WHO)).expect("written");
    place.change(name, |change| change.forget_unmade("b@e")).expect("inspected");
    assert!(log.exists(), "the reflog of another actor stays");
    place.change(name, |change| change.forget_unmade(WHO)).expect("forgotten");
    assert!(!log.exists());
}

/// Covers loose and packed refs; other refs stay.
#[test]
fn ref_deletion_removes_reflog_and_folders() {
    let place = Place::new();
    let name = "refs/groundskeeper/trash/a/1";
    let other = "2".repeat(40);
    for packed in [false, true] {
        for reference in [name, "refs/heads/gk/a", "refs/heads/gk/ab"] {
            place.change(reference, |c| c.create_branch(&place.commit, WHO, "x")).expect("made");
        }
        let who = ["-c", "user.name=t", "-c", "user.email=t@example.org"];
        let tag = ["tag", "--force", "-a", "-m", "x", "tag", place.commit.as_str()];
        place.git().output(who.into_iter().chain(tag)).expect("tagged");
        if packed {
            place.git().output(["pack-refs", "--all"]).expect("packed");
        }
        place.change(name, |c| c.delete(Some(&other))).expect_err("the ref points elsewhere");
        assert!(place.at(name).is_some());
        place.change(name, |c| c.delete(Some(&place.commit))).expect("deleted");
        place.change("refs/heads/gk/a", |c| c.delete(Some(&place.commit))).expect("deleted");
        assert_eq!((place.at(name), place.at("refs/heads/gk/a")), (None, None));
        assert!(place.at("refs/heads/gk/ab").is_some() && place.at("tag^{commit}").is_some());
        let there = |path: &str| place.common().join(path).exists();
        assert!(there("refs/groundskeeper") || packed);
        assert!(!there("refs/groundskeeper/trash") && !there(&format!("logs/{name}")));
        assert_eq!(place.lock_files(), Vec::<PathBuf>::new());
        place.git().output(["update-ref", "-d", "refs/heads/gk/ab"]).expect("deleted");
        place.git().output(["fsck"]).expect("whole");
    }
}

/// A symbolic ref would move the branch that it points to.
#[test]
fn tracking_ref_advances_but_not_symref() {
    let place = Place::new();
    let (tracking, alias) = ("refs/remotes/o/main", "refs/remotes/o/alias");
    let who = ["-c", "user.name=t", "-c", "user.email=t@example.org"];
    let tree = place.git().line(["write-tree"]).expect("a tree");
    let args = ["commit-tree", "-m", "second", "-p", &place.commit, tree.as_str()];
    let second = place.git().line(who.into_iter().chain(args)).expect("a commit");
    for commit in [&place.commit, &second] {
        place.change(tracking, |c| c.advance(commit)).expect("moved");
        assert_eq!(place.at(tracking).as_ref(), Some(commit));
    }
    place.git().output(["symbolic-ref", alias, "refs/heads/main"]).expect("made");
    place.change(alias, |c| c.advance(&second)).expect_err("the target is main");
    assert_eq!(place.at("refs/heads/main"), Some(place.commit.clone()));
    assert_eq!(place.lock_files(), Vec::<PathBuf>::new());
}

/// The fault is transient at first and permanent after several attempts.
#[test]
fn foreign_ref_lock_is_reported_untouched() {
    let place = Place::new();
    let branch = "refs/heads/gk/a";
    place.change(branch, |c| c.create_branch(&place.commit, WHO, "x")).expect("made");
    for lock in ["packed-refs.lock", "refs/heads/gk/a.lock"] {
        let lock = place.common().join(lock);
        std::fs::write(&lock, "").expect("written");
        let locked = place.change(branch, |c| c.delete(None)).expect_err("locked");
        let fault = Fault::from(locked);
        assert_eq!(fault.code, Code::RepositoryLocked);
        assert!(fault.transient && fault.evidence == [lock.display().to_string()], "{fault:?}");
        let late = |c: &Change<'_>| Change { attempts: 9, ..*c }.delete(None);
        assert!(
            !Fault::from(place.change(branch, late).expect_err("locked")).transient,
            "permanent after several attempts"
        );
        assert!(lock.exists() && place.at(branch).is_some());
        std::fs::remove_file(lock).expect("removed");
    }
    let lock = place.common().join("refs/heads/gk/b.lock");
    std::fs::write(&lock, "").expect("written");
    let make = |c: &Change<'_>| c.create_branch(&place.commit, WHO, "x");
    let fault = Fault::from(place.change("refs/heads/gk/b", make).expect_err("locked"));
    assert_eq!((fault.code, lock.exists()), (Code::RepositoryLocked, true));
    assert_eq!(place.at("refs/heads/gk/b"), None);
}

/// A lock on a ref that exists may belong to a running `pack-refs`, so it is removed only when
/// old.
#[test]
fn stale_own_ref_lock_is_removed() {
    let dir = tempfile::tempdir().expect("a directory");
    let (ours, theirs) = ("refs/groundskeeper/rescue/a/1", "refs/heads/main");
    let lock = |reference: &str| dir.path().join(format!("{reference}.lock"));
    for reference in [ours, theirs] {
        std::fs::create_dir_all(lock(reference).parent().expect("a folder")).expect("made");
        std::fs::write(lock(reference), "").expect("written");
        break_stale(dir.path(), reference);
    }
    assert!(!lock(ours).exists(), "only groundskeeper creates this ref");
    assert!(lock(theirs).exists(), "a lock on a foreign ref stays");
    std::fs::write(dir.path().join(ours), "").expect("written");
    std::fs::write(lock(ours), "").expect("written");
    break_stale(dir.path(), ours);
    assert!(lock(ours).exists(), "an existing ref may be in use by pack-refs");
    let lock = std::fs::File::options().write(true).open(lock(ours)).expect("opened");
    let then = std::time::SystemTime::now() - 2 * STALE;
    lock.set_modified(then).expect("set");
    break_stale(dir.path(), ours);
    assert!(!dir.path().join(format!("{ours}.lock")).exists(), "an old lock is removed");
}
