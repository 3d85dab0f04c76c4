//! What many rescues cost a user's git, once they are folded, and for how long folding them locks
//! `packed-refs`. Prints the figures; asserts loose bounds, since a machine may be busy.
//!
//! `GROUNDSKEEPER_RESCUES=60000` measures what the documentation promises.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::world::git::command::Git;
use crate::world::git::fold::{Fold, GROUP_MAX};
use crate::world::git::ref_batch::RefBatch;
use crate::world::process::cancel::Cancel;

const COUNT: usize = 10_000;
const ROUNDS: usize = 40;
const FOLDED: &str = "refs/groundskeeper/folded/0123456789abcdef0123456789abcdef";

/// A repository with a remote, files, and branches.
struct Place {
    dir: tempfile::TempDir,
    cancel: Cancel,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let place = Self { dir, cancel: Cancel::new().expect("a cancel") };
        let (top, repo) = (place.dir.path(), place.repo());
        for n in 0..2_000 {
            let folder = repo.join(format!("d{}", n / 50));
            std::fs::create_dir_all(&folder).expect("a folder");
            std::fs::write(folder.join(format!("f{n}")), format!("{n}\n")).expect("written");
        }
        place.run(top, &["init", "-q", "--bare", "origin"]);
        place.run(top, &["init", "-q", "-b", "main", "repo"]);
        for (name, value) in [("user.name", "t"), ("user.email", "t@t"), ("gc.auto", "0")] {
            place.run(&repo, &["config", name, value]);
        }
        place.run(&repo, &["add", "-A"]);
        place.run(&repo, &["commit", "-q", "-m", "first"]);
        (0..200).for_each(|n| place.run(&repo, &["branch", &format!("b{n}")]));
        place.run(&repo, &["remote", "add", "origin", "../origin"]);
        place.run(&repo, &["push", "-q", "origin", "--all"]);
        place.run(&repo, &["gc", "-q"]);
        place
    }

    fn repo(&self) -> PathBuf {
        self.dir.path().join("repo")
    }

    fn common(&self) -> PathBuf {
        self.repo().join(".git")
    }

    fn run(&self, at: &Path, args: &[&str]) {
        Git::at(at, None, &self.cancel).output(args).expect("git runs");
    }

    /// Returns the time of one git command.
    fn time(&self, args: &[&str]) -> Duration {
        let began = Instant::now();
        self.run(&self.repo(), args);
        began.elapsed()
    }

    /// Makes rescues with packed refs of their own, as a `git gc` of the user leaves them.
    fn rescue(&self, count: usize) -> BTreeMap<String, String> {
        let mut stream = String::new();
        for n in 0..count {
            let time = 1_700_000_000 + n * 170;
            let who = format!("author g <g@g> {time} +0000\ncommitter g <g@g> {time} +0000");
            let text = format!("work {n}\n");
            let file = format!("M 100644 inline work\ndata {}\n{text}\n", text.len());
            write!(stream, "commit refs/made\nmark :{}\n{who}\ndata 1\nr\n", n + 1).expect("text");
            write!(stream, "from refs/heads/main^0\n{file}").expect("text");
        }
        let (source, marks) = (self.dir.path().join("stream"), self.dir.path().join("marks"));
        std::fs::write(&source, stream).expect("written");
        let stdin = File::open(&source).expect("a file");
        let git = Git::at(&self.repo(), Some(&stdin), &self.cancel);
        let export = format!("--export-marks={}", marks.display());
        git.output(["fast-import", "--quiet", "--force", &export]).expect("imported");
        let marks = std::fs::read_to_string(&marks).expect("marks");
        let named = marks.lines().filter_map(|line| line.strip_prefix(':')?.split_once(' '));
        let refs: BTreeMap<String, String> = named
            .map(|(n, commit)| {
                let name = format!("refs/groundskeeper/rescue/e{n}/1-01234567-{n:0>32}");
                (name, commit.to_owned())
            })
            .collect();
        assert_eq!(refs.len(), count);
        let packed = self.common().join("packed-refs");
        let text = std::fs::read_to_string(&packed).expect("packed refs");
        let (head, rest) = text.split_once('\n').expect("a header");
        let mut lines: Vec<String> = rest.lines().map(str::to_owned).collect();
        lines.extend(refs.iter().map(|(name, commit)| format!("{commit} {name}")));
        lines.sort_by(|a, b| a.split(' ').nth(1).cmp(&b.split(' ').nth(1)));
        std::fs::write(&packed, format!("{head}\n{}\n", lines.join("\n"))).expect("written");
        self.run(&self.repo(), &["update-ref", "-d", "refs/made"]);
        refs
    }

    /// Folds all, as the steps of the daemon do. Returns how long `packed-refs` was locked by each.
    fn fold(&self, refs: &BTreeMap<String, String>) -> Vec<Duration> {
        let (common, cancel) = (self.common(), &self.cancel);
        let git = Git::exact(&common, None, None, cancel);
        let scratch = self.dir.path().join("scratch");
        let mut locked = Vec::new();
        let all: Vec<(&String, &String)> = refs.iter().collect();
        for some in all.chunks(GROUP_MAX) {
            let some: BTreeMap<String, String> =
                some.iter().map(|(name, commit)| ((*name).clone(), (*commit).clone())).collect();
            let mut fold = Fold::read(&git, &common, FOLDED).expect("read");
            fold.add(some.clone());
            let made = fold.write(&git, &scratch).expect("written");
            git.output(["update-ref", FOLDED, &made]).expect("moved");
            let batch = RefBatch { common: &common, refs: &some, log: "1", cancel };
            assert_eq!(batch.standing().expect("read").there.len(), some.len());
            locked.push(batch.delete().expect("deleted"));
            assert_eq!(batch.standing().expect("read").absent.len(), some.len());
        }
        locked.sort_unstable();
        locked
    }
}

#[test]
fn folded_rescues_do_not_slow_git() {
    let count = std::env::var("GROUNDSKEEPER_RESCUES").ok().and_then(|n| n.parse().ok());
    let count = count.unwrap_or(COUNT);
    let (none, many) = (Place::new(), Place::new());
    let refs = many.rescue(count);
    let loose = many.time(&["for-each-ref"]);
    let locked = many.fold(&refs);
    eprintln!("{count} rescues: packed-refs was locked for {:?} at most", locked.last());
    // Other tests run at the same time, and take the processor away in the middle of one.
    assert!(locked[locked.len() / 2] <= Duration::from_millis(50), "{locked:?}");
    for place in [&none, &many] {
        // An index as old as the files in it would have git read these again each time.
        place.run(&place.repo(), &["read-tree", "HEAD"]);
        place.run(&place.repo(), &["update-index", "-q", "--refresh"]);
    }
    let before = none.time(&["for-each-ref"]);
    eprintln!("for-each-ref: {before:?} without rescues, {loose:?} before they were folded");
    let commands: [&[&str]; 3] = [&["for-each-ref"], &["fetch", "-q", "origin"], &["status"]];
    for command in commands {
        let mut best = [Duration::MAX; 2];
        for _ in 0..ROUNDS {
            for (best, place) in best.iter_mut().zip([&none, &many]) {
                *best = place.time(command).min(*best);
            }
        }
        let ratio = best[1].as_secs_f64() / best[0].as_secs_f64();
        eprintln!("git {}: {best:?}, ratio {ratio:.3}", command[0]);
        assert!(ratio < 1.6, "git {}: {best:?}", command[0]);
    }
}

/// Refs of the user, and those of ours that are elsewhere, stay as they are.
#[test]
fn batch_deletes_only_refs_at_their_commit() {
    let place = Place::new();
    let mut refs = place.rescue(40);
    let git = Git::exact(&place.common(), None, None, &place.cancel);
    let names: Vec<String> = refs.keys().cloned().collect();
    // One is loose, one is loose over an older packed value, one was moved, one is a branch.
    let main = git.line(["rev-parse", "main"]).expect("a commit");
    git.output(["update-ref", "--create-reflog", "refs/groundskeeper/rescue/x/1", &main])
        .expect("made");
    refs.insert("refs/groundskeeper/rescue/x/1".to_owned(), main.clone());
    git.output(["update-ref", &names[0], &main]).expect("moved");
    refs.insert(names[0].clone(), main.clone());
    git.output(["update-ref", &names[1], &main]).expect("moved");
    refs.insert("refs/heads/b1".to_owned(), main);
    let batch = RefBatch { common: &place.common(), refs: &refs, log: "1", cancel: &place.cancel };
    batch.delete().expect("deleted");
    let left = git.line(["for-each-ref", "--format=%(refname)", "refs/groundskeeper"]);
    assert_eq!(left.expect("listed"), names[1]);
    let heads = git.line(["for-each-ref", "--format=%(refname)", "refs/heads"]).expect("listed");
    assert_eq!(heads.lines().count(), 201);
    let standing = batch.standing().expect("read");
    assert_eq!(standing.there, BTreeSet::from(["refs/heads/b1".to_owned()]));
    assert!(!standing.absent.contains(&names[1]), "it is at another commit");
    git.output(["fsck", "--strict"]).expect("whole");
}
