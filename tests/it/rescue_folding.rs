//! Many rescues of one repository: the older ones share one ref, and each is as good as before.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use groundskeeper::core::policy::{RESCUE_REFS_KEPT, RESCUE_REFS_MAX};
use serde_json::Value;

use crate::support::{Daemon, Harness, wait_for};

/// As many rescues as lead to one fold.
const MANY: usize = RESCUE_REFS_MAX + 1;

fn name(n: usize) -> String {
    format!("e{n:02}")
}

/// Creates environments with work of their own and removes them.
fn rescue_all(harness: &Harness, repo: &Path, numbers: std::ops::Range<usize>) {
    for n in numbers {
        let path = harness.new_env(&name(n), repo, &[]);
        harness.write(&path.join("work"), &format!("work of {n}\n"));
        harness.write(&path.join("staged"), &format!("staged by {n}\n"));
        harness.git(&path, &["add", "staged"]);
        harness.ok(&["rm", &name(n), "--force"]);
    }
}

fn refs(harness: &Harness, repo: &Path, kind: &str) -> Vec<String> {
    let below = format!("refs/groundskeeper/{kind}");
    let listed = harness.git(repo, &["for-each-ref", "--format=%(refname)", &below]);
    listed.lines().map(str::to_owned).collect()
}

fn wait_for_fold(harness: &Harness, repo: &Path, left: usize) {
    wait_for("a fold", || refs(harness, repo, "rescue").len() <= left);
    wait_for("the end of the fold", || {
        let rescues = harness.ok(&["rescue", "ls"]);
        let own = |r: &&Value| r["rescue"].as_str().is_some_and(|r| r.contains("/rescue/"));
        rescues.as_array().expect("a list").iter().filter(own).count() <= left
    });
}

fn commit_of(harness: &Harness, n: usize) -> String {
    harness.ok(&["rescue", "show", &name(n)])["commit"].as_str().expect("a commit").to_owned()
}

/// Prunes what no ref reaches, as a user's git may at any time.
fn prune(harness: &Harness, repo: &Path) {
    harness.git(repo, &["reflog", "expire", "--expire=now", "--all"]);
    // What `gc` does, without `pack-refs`: a killed daemon may hold the lock of packed refs until
    // its successor starts.
    harness.git(repo, &["repack", "-q", "-A", "-d"]);
    harness.git(repo, &["prune", "--expire=now"]);
    harness.git(repo, &["fsck", "--strict"]);
}

fn is_whole(harness: &Harness, repo: &Path, commit: &str, n: usize) {
    let show = |what: &str| harness.git(repo, &["show", &format!("{commit}{what}")]);
    assert_eq!(show(":work"), format!("work of {n}"));
    assert_eq!(show("^2:staged"), format!("staged by {n}"));
}

/// Makes many rescues in a repository, and waits until they are in one fold, whose trash is gone.
fn folded() -> (Harness, PathBuf, String) {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    rescue_all(&harness, &repo, 0..MANY);
    wait_for_fold(&harness, &repo, RESCUE_REFS_KEPT);
    harness.ok(&["trash", "empty"]);
    let fold = refs(&harness, &repo, "folded").remove(0);
    (harness, repo, fold)
}

#[test]
fn older_rescues_share_one_ref() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    rescue_all(&harness, &repo, 0..RESCUE_REFS_MAX);
    assert_eq!(refs(&harness, &repo, "folded"), Vec::<String>::new(), "a few keep their refs");
    let before = harness.ok(&["rescue", "show", "e03"]);
    rescue_all(&harness, &repo, RESCUE_REFS_MAX..MANY);
    wait_for_fold(&harness, &repo, RESCUE_REFS_KEPT);
    let folded = refs(&harness, &repo, "folded");
    assert_eq!(folded.len(), 1, "{folded:?}");
    assert!(!repo.join(".git/refs/groundskeeper/rescue/e03").exists(), "no empty folder is left");
    assert!(!repo.join(".git/logs").join(&folded[0]).exists(), "a history would hold the dropped");
    let now = harness.ok(&["rescue", "show", "e03"]);
    assert_eq!((&now["commit"], now["rescue"].as_str()), (&before["commit"], Some(&*folded[0])));
    let (_, shown) = text_of(&harness, &["rescue", "show", "e03"]);
    let commit = commit_of(&harness, 3);
    assert!(shown.contains(&format!("git diff {commit}^1 {commit}")), "{shown}");
    prune(&harness, &repo);
    for n in 0..MANY {
        is_whole(&harness, &repo, &commit_of(&harness, n), n);
    }
    // The trash goes, and no rescue is made again because its ref is gone.
    harness.ok(&["trash", "empty"]);
    let kinds = harness.ok(&["events"]).to_string();
    assert!(!kinds.contains("LateWorkRescued"), "a folded rescue counts as saved");
    let restored = harness.ok(&["restore", "e03"]);
    let path = PathBuf::from(restored["path"].as_str().expect("a path"));
    let path = harness.path("").join(path);
    assert_eq!(std::fs::read_to_string(path.join("work")).expect("back"), "work of 3\n");
    assert_eq!(harness.git(&path, &["status", "--porcelain"]), "A  staged\n?? work");
    harness.ok(&["rm", "e03", "--force"]);
    harness.check(&[&repo]);
}

fn text_of(harness: &Harness, args: &[&str]) -> (i32, String) {
    let output = harness.command(args).stderr(Stdio::null()).output().expect("runs");
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What is dropped is reachable no more; all else is.
#[test]
fn folded_rescue_is_dropped_alone() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    rescue_all(&harness, &repo, 0..MANY);
    // git packs refs at times, and then a deletion rewrites the packed ones.
    harness.git(&repo, &["pack-refs", "--all"]);
    wait_for_fold(&harness, &repo, RESCUE_REFS_KEPT);
    harness.ok(&["trash", "empty"]);
    let dropped = commit_of(&harness, 5);
    harness.ok(&["rescue", "drop", "e05"]);
    prune(&harness, &repo);
    let there = |commit: &str| harness.git_raw(&repo, &["cat-file", "-e", commit]).status.success();
    assert!(!there(&dropped), "nothing holds it");
    for n in (0..MANY).filter(|n| *n != 5) {
        is_whole(&harness, &repo, &commit_of(&harness, n), n);
    }
    for n in (0..MANY).filter(|n| *n != 5) {
        harness.ok(&["rescue", "drop", &name(n)]);
    }
    assert_eq!(harness.git(&repo, &["for-each-ref", "refs/groundskeeper"]), "");
    let packed = std::fs::read_to_string(repo.join(".git/packed-refs")).expect("a file");
    assert!(packed.contains("refs/heads/main"), "refs of the user stay: {packed}");
    harness.check(&[&repo]);
}

fn packs(repo: &Path) -> Vec<String> {
    let names = std::fs::read_dir(repo.join(".git/objects/pack")).expect("a folder").flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.ends_with(".pack")).collect()
}

/// Objects of folded rescues are packed, and nothing else of the repository is touched.
#[test]
fn folded_rescues_leave_few_loose_objects() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    // An object that nothing reaches stays until the user's git prunes it.
    harness.write(&repo.join("unreachable"), "of the user\n");
    let foreign = harness.git(&repo, &["hash-object", "-w", "unreachable"]);
    std::fs::remove_file(repo.join("unreachable")).expect("removed");
    let is_loose = |oid: &str| {
        let (folder, rest) = oid.split_at(2);
        repo.join(".git/objects").join(folder).join(rest).exists()
    };
    let main = harness.git(&repo, &["rev-parse", "main"]);
    rescue_all(&harness, &repo, 0..MANY);
    wait_for_fold(&harness, &repo, RESCUE_REFS_KEPT);
    let (first, last) = (commit_of(&harness, 0), commit_of(&harness, MANY - 1));
    assert!(!is_loose(&first) && is_loose(&last), "only folded ones are packed");
    assert!(is_loose(&foreign) && is_loose(&main), "objects of the user stay as they are");
    let made = packs(&repo);
    assert!(made.len() == 1 && made[0].starts_with("groundskeeper-"), "{made:?}");
    // The next fold packs the small pack again, so that there are not many.
    rescue_all(&harness, &repo, MANY..2 * MANY - 1);
    wait_for_fold(&harness, &repo, RESCUE_REFS_KEPT);
    let again = packs(&repo);
    assert!(again.len() == 1 && again != made, "{again:?}");
    harness.git(&repo, &["fsck", "--strict"]);
    prune(&harness, &repo);
    for n in 0..2 * MANY - 1 {
        is_whole(&harness, &repo, &commit_of(&harness, n), n);
    }
    harness.check(&[&repo]);
}

/// Whatever is folded and dropped: the lists of rescues leave no loose objects behind.
#[test]
fn changed_folds_leave_no_loose_objects() {
    let (harness, repo, fold) = folded();
    let loose = || {
        let counted = harness.git(&repo, &["count-objects"]);
        counted.split(' ').next().and_then(|n| n.parse::<usize>().ok()).expect("a number")
    };
    let before = loose();
    for n in 0..6 {
        let tip = harness.git(&repo, &["rev-parse", &fold]);
        harness.ok(&["rescue", "drop", &name(n)]);
        assert_ne!(harness.git(&repo, &["rev-parse", &fold]), tip, "each drop makes a new fold");
        assert_eq!(loose(), before, "after {} drops", n + 1);
    }
    assert!(packs(&repo).len() <= 4, "{:?}", packs(&repo));
    prune(&harness, &repo);
    for n in 6..MANY {
        is_whole(&harness, &repo, &commit_of(&harness, n), n);
    }
    harness.check(&[&repo]);
}

/// git makes bundles of refs only, and a folded nested repository has none.
#[test]
fn folded_nested_repository_is_restored() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("outer", &repo, &[]);
    let inner = path.join("vendor/inner");
    std::fs::create_dir_all(&inner).expect("a folder");
    harness.git(&inner, &["init", "-q"]);
    harness.write(&inner.join("file"), "inner\n");
    let commit = harness.commit(&inner, "inner");
    harness.ok(&["rm", "outer", "--force"]);
    rescue_all(&harness, &repo, 0..MANY);
    wait_for_fold(&harness, &repo, RESCUE_REFS_MAX);
    harness.ok(&["trash", "empty"]);
    prune(&harness, &repo);
    harness.ok(&["restore", "outer"]);
    assert_eq!(harness.git(&inner, &["rev-parse", "HEAD"]), commit);
    assert_eq!(std::fs::read_to_string(inner.join("file")).expect("back"), "inner\n");
    assert_eq!(refs(&harness, &repo, "fetch"), Vec::<String>::new());
    harness.check(&[&repo]);
}

/// A prune that read the refs before the fold had one deletes the commits of the fold.
#[test]
fn fold_that_lost_its_commits_is_written_again() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    rescue_all(&harness, &repo, 0..MANY);
    wait_for("the ref of the fold", || !refs(&harness, &repo, "folded").is_empty());
    assert_eq!(refs(&harness, &repo, "rescue").len(), MANY, "the fold waits before it deletes");
    let fold = refs(&harness, &repo, "folded").remove(0);
    let lost = [3, 7].map(|n| harness.git(&repo, &["rev-parse", &format!("{fold}~{n}")]));
    for oid in lost {
        delete_object(&repo, &oid);
    }
    wait_for_fold(&harness, &repo, RESCUE_REFS_KEPT);
    prune(&harness, &repo);
    for n in 0..MANY {
        is_whole(&harness, &repo, &commit_of(&harness, n), n);
    }
    harness.check(&[&repo]);
}

fn delete_object(repo: &Path, oid: &str) {
    let (folder, rest) = oid.split_at(2);
    std::fs::remove_file(repo.join(".git/objects").join(folder).join(rest))
        .expect("a loose object");
}

/// Refs of ours that somebody deletes come back while git has the commits, and what git has deleted
/// is named.
#[test]
fn deleted_refs_of_rescues_come_back() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    rescue_all(&harness, &repo, 0..MANY + 1);
    wait_for_fold(&harness, &repo, RESCUE_REFS_KEPT + 1);
    harness.ok(&["trash", "empty"]);
    let (dropped, lost) = (commit_of(&harness, 4), commit_of(&harness, MANY));
    harness.ok(&["rescue", "drop", &name(4)]);
    for reference in harness.git(&repo, &["for-each-ref", "--format=%(refname)"]).lines() {
        if reference.starts_with("refs/groundskeeper/") {
            harness.git(&repo, &["update-ref", "-d", reference]);
        }
    }
    delete_object(&repo, &lost);
    let (found, applied) = (harness.ok(&["sweep"]), harness.ok(&["sweep", "--apply"]));
    for (report, settled) in [(found, false), (applied, true)] {
        let of_rescues = |f: &&Value| f["kind"] == "rescue";
        let findings: Vec<&Value> =
            report["findings"].as_array().expect("findings").iter().filter(of_rescues).collect();
        assert_eq!(findings.len(), 2, "{report:#}");
        assert_eq!(
            (&findings[0]["ours"], &findings[0]["settled"]),
            (&true.into(), &settled.into())
        );
        let detail = findings[1]["detail"].as_str().expect("a detail");
        assert!(detail.contains(&lost) && detail.contains(&name(MANY)), "{detail}");
    }
    prune(&harness, &repo);
    for n in (0..MANY).filter(|n| *n != 4) {
        is_whole(&harness, &repo, &commit_of(&harness, n), n);
    }
    let there = |commit: &str| harness.git_raw(&repo, &["cat-file", "-e", commit]).status.success();
    assert!(!there(&dropped), "what was dropped does not come back");
    harness.ok(&["restore", &name(7)]);
    harness.ok(&["rm", &name(7), "--force"]);
    harness.check(&[&repo]);
}

/// A fold that lacks objects goes only when each rescue in it has a ref of its own again.
#[test]
fn damaged_fold_is_replaced_by_refs() {
    let (harness, repo, fold) = folded();
    let group = harness.git(&repo, &["rev-parse", &format!("{fold}~7")]);
    for name in packs(&repo) {
        let (pack, aside) = (repo.join(".git/objects/pack").join(&name), harness.path(&name));
        std::fs::rename(&pack, &aside).expect("moved");
        std::fs::remove_file(pack.with_extension("idx")).expect("removed");
        let mut unpack = std::process::Command::new("git");
        unpack.arg("-C").arg(&repo).args(["unpack-objects", "-q"]);
        unpack.stdin(std::fs::File::open(&aside).expect("opened"));
        assert!(unpack.status().expect("runs").success());
    }
    delete_object(&repo, &group);
    // One is not whole any more: until that is known to be lost, the fold stays.
    let broken = harness.git(&repo, &["rev-parse", &format!("{}:work", commit_of(&harness, 3))]);
    delete_object(&repo, &broken);
    let swept = harness.ok(&["sweep", "--apply"]).to_string();
    assert!(
        swept.contains("lacks objects") && swept.contains("e03 (incarnation 1) is lost"),
        "{swept}"
    );
    assert_eq!(refs(&harness, &repo, "folded"), std::slice::from_ref(&fold));
    assert_eq!(refs(&harness, &repo, "rescue").len(), MANY - 1);
    harness.git(&repo, &["fetch", "-q", ".", "main"]);
    harness.write(&harness.path("again"), "work of 3\n");
    let again = harness.path("again");
    harness.git(&repo, &["hash-object", "-w", again.to_str().expect("text")]);
    harness.ok(&["sweep", "--apply"]);
    assert_eq!(refs(&harness, &repo, "folded"), Vec::<String>::new());
    prune(&harness, &repo);
    for n in 0..MANY {
        is_whole(&harness, &repo, &commit_of(&harness, n), n);
    }
    harness.check(&[&repo]);
}

/// A repository that was converted keeps its refs elsewhere: none is taken for deleted.
#[test]
fn rescues_in_converted_repository_are_not_missed() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    rescue_all(&harness, &repo, 0..2);
    harness.ok(&["trash", "empty"]);
    let converted = harness.git_raw(&repo, &["refs", "migrate", "--ref-format=reftable"]);
    if !converted.status.success() {
        eprintln!("this git converts no repository: {converted:?}");
        return;
    }
    let before = harness.git(&repo, &["for-each-ref"]);
    let swept = harness.ok(&["sweep", "--apply"]);
    let kinds = swept["findings"].as_array().expect("findings").iter().map(|f| &f["kind"]);
    assert_eq!(kinds.filter(|kind| *kind == "rescue").count(), 0, "{swept:#}");
    assert_eq!(harness.git(&repo, &["for-each-ref"]), before);
}

/// Killed after the refs were deleted and before that is recorded, while a prune that began before
/// deletes the commits of the fold: the next start holds every rescue again.
#[test]
fn killed_fold_without_its_commits_is_mended() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let mut daemon =
        Daemon::start_with(&harness, &[("GROUNDSKEEPER_KILL_AT", "fold.unreferenced")]);
    rescue_all(&harness, &repo, 0..MANY - 1);
    let commits: Vec<String> = (0..MANY - 1).map(|n| commit_of(&harness, n)).collect();
    rescue_all(&harness, &repo, MANY - 1..MANY);
    wait_for("the end of a killed daemon", || daemon.is_dead());
    daemon.kill();
    assert_eq!(refs(&harness, &repo, "rescue").len(), RESCUE_REFS_KEPT);
    let fold = refs(&harness, &repo, "folded").remove(0);
    for n in 0..8 {
        let oid = harness.git(&repo, &["rev-parse", &format!("{fold}~{}", 7 - n)]);
        delete_object(&repo, &oid);
    }
    let _daemon = Daemon::start(&harness);
    // By refs of their own or by a fold: the step may be tried again before they are mended, and
    // then waits for its next turn.
    wait_for("refs that hold all rescues", || {
        let held = |commit: &String| {
            let holders = ["for-each-ref", "--contains", commit, "refs/groundskeeper"];
            let found = harness.git_raw(&repo, &holders);
            found.status.success() && !found.stdout.is_empty()
        };
        commits.iter().all(held)
    });
    prune(&harness, &repo);
    for (n, commit) in commits.iter().enumerate() {
        is_whole(&harness, &repo, commit, n);
    }
    harness.check(&[&repo]);
}

/// A ref of a rescue that somebody moved is not ours to delete, and blocks no other.
#[test]
fn moved_rescue_ref_is_left_alone() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    rescue_all(&harness, &repo, 0..MANY - 1);
    let moved =
        harness.ok(&["rescue", "show", "e00"])["rescue"].as_str().expect("a ref").to_owned();
    harness.git(&repo, &["update-ref", &moved, "main"]);
    rescue_all(&harness, &repo, MANY - 1..MANY);
    wait_for_fold(&harness, &repo, RESCUE_REFS_KEPT + 1);
    let main = harness.git(&repo, &["rev-parse", "main"]);
    assert_eq!(harness.git(&repo, &["rev-parse", &moved]), main);
    assert_eq!(harness.ok(&["rescue", "show", "e00"])["rescue"].as_str(), Some(&*moved));
}

/// At every instant each rescue is reachable, and the next daemon ends what the last one began.
#[test]
fn fold_survives_kill_at_every_point() {
    let points = ["fold.committed", "fold.referenced", "fold.unpacked", "fold.unlinked_one:2"];
    let later = ["fold.unreferenced", "pack.verified", "pack.unlinked_one:5", "fold.dropped"];
    std::thread::scope(|scope| {
        for point in points.into_iter().chain(later) {
            scope.spawn(move || fold_is_killed_at(point));
        }
    });
}

fn fold_is_killed_at(point: &str) {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let mut daemon = Daemon::start_with(&harness, &[("GROUNDSKEEPER_KILL_AT", point)]);
    rescue_all(&harness, &repo, 0..MANY - 1);
    let commits: Vec<String> = (0..MANY - 1).map(|n| commit_of(&harness, n)).collect();
    if point == "fold.unpacked" {
        harness.git(&repo, &["pack-refs", "--all"]);
    }
    rescue_all(&harness, &repo, MANY - 1..MANY);
    if point == "fold.dropped" {
        wait_for_fold(&harness, &repo, RESCUE_REFS_KEPT);
        let drop = ["--json", "--no-autostart", "rescue", "drop", "e00"];
        let dropped = harness.command(&drop).output().expect("runs");
        assert!(!dropped.status.success(), "the daemon dies meanwhile");
    }
    wait_for("the end of a killed daemon", || daemon.is_dead());
    daemon.kill();
    prune(&harness, &repo);
    let kept = usize::from(point == "fold.dropped");
    for (n, commit) in commits.iter().enumerate().skip(kept) {
        is_whole(&harness, &repo, commit, n);
    }
    let _daemon = Daemon::start(&harness);
    wait_for_fold(&harness, &repo, RESCUE_REFS_KEPT);
    harness.drain();
    prune(&harness, &repo);
    for (n, commit) in commits.iter().enumerate().skip(kept) {
        is_whole(&harness, &repo, commit, n);
    }
    harness.check(&[&repo]);
    let own = std::fs::read_dir(repo.join(".git")).expect("a folder").flatten();
    let own = own.filter(|e| e.file_name().to_string_lossy().contains("packed-refs.ground"));
    assert_eq!(own.count(), 0, "{point}");
}
