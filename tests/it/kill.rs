//! SIGKILL at every named point of the daemon, and at random instants under load.
//!
//! After each kill a new daemon starts, settles, and is checked from the outside. Everything that
//! was acknowledged before the kill must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use groundskeeper::failpoint::kill::POINTS;

use crate::support::{Daemon, Harness, sleep, wait_for};

/// Creates a repository that causes every step: included files, hooks, and a failing hook.
fn scene(harness: &Harness) -> std::path::PathBuf {
    let repo = harness.repo("project", 5);
    harness.write(&repo.join(".gitignore"), "*.env\ntarget/\n");
    harness.write(&repo.join(".worktreeinclude"), "*.env\n");
    harness.teardown_hook(&repo, "#!/bin/sh\necho down\n");
    harness.hook(
        &repo,
        "#!/bin/sh\ncase $GROUNDSKEEPER_ENV in bad*) echo no >&2; exit 1;; esac\necho ok\n",
    );
    harness.write(&repo.join("a.env"), "A\n");
    harness.write(&repo.join("b.env"), "B\n");
    repo
}

fn run_ok(harness: &Harness, args: &[&str]) -> bool {
    let mut all = vec!["--json", "--no-autostart"];
    all.extend(args);
    let mut command: Command = harness.command(&all);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().expect("runs").success()
}

/// Runs the whole life cycle with all its branches. Every call may fail because the daemon is dead.
fn run_main_job(harness: &Harness, repo: &Path) -> BTreeMap<&'static str, &'static str> {
    let repo = repo.to_str().expect("text");
    let mut acknowledged = BTreeMap::new();
    run_ok(harness, &["trust", "--repo", repo]);
    if run_ok(harness, &["new", "one", "--repo", repo]) {
        acknowledged.insert("one", "ready");
    }
    run_ok(harness, &["new", "bad", "--repo", repo]);
    if run_ok(harness, &["new", "two", "--repo", repo]) {
        acknowledged.insert("two", "ready");
    }
    // From here until the removal is acknowledged, both phases are correct.
    acknowledged.remove("two");
    copy_aside(harness, repo);
    if run_ok(harness, &["rm", "two"]) {
        acknowledged.insert("two", "tombstoned");
    }
    run_ok(harness, &["exec", "one", "--", "true"]);
    run_ok(harness, &["lease", "one", "--for", "1h"]);
    run_removal_and_restore(harness, repo, &mut acknowledged);
    acknowledged
}

/// Copies the worktree of an environment and its registration aside, if they are there.
fn copy_aside(harness: &Harness, repo: &str) {
    let admin = std::fs::read_dir(Path::new(repo).join(".git/worktrees"));
    let admin = admin.into_iter().flatten().flatten().map(|entry| entry.path());
    let mut admin = admin.filter(|path| path.to_string_lossy().contains("/gk-two-"));
    let worktree = harness.data().join("worktrees/two/project");
    if let (Some(admin), true) = (admin.next(), worktree.exists()) {
        std::fs::create_dir_all(harness.path("aside/admin")).expect("a folder");
        let to = [harness.path("aside/worktree"), harness.path("aside/admin")];
        for (from, to) in [&worktree, &admin].into_iter().zip(to) {
            assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp").success());
        }
    }
}

/// Puts the worktree back, as a removal that was given up would leave it; and an empty directory
/// where the environment still has another one. Only once nothing of the environment is in the
/// trash: otherwise there would be two directories of one incarnation.
fn put_back(harness: &Harness, repo: &str) {
    let place = harness.data().join("worktrees/two");
    std::fs::create_dir_all(&place).expect("a folder");
    let listed = harness.command(&["--json", "--no-autostart", "trash", "ls"]).output();
    let list: serde_json::Value =
        serde_json::from_slice(&listed.expect("runs").stdout).unwrap_or_default();
    let is_gone = list.as_array().is_some_and(|all| all.iter().all(|entry| entry["id"] != "two"));
    let aside = harness.path("aside/admin");
    if !is_gone || !aside.exists() || !run_ok(harness, &["show", "one"]) {
        return;
    }
    let to = [place.join("project"), Path::new(repo).join(".git/worktrees")];
    std::fs::create_dir_all(&to[1]).expect("a folder");
    let admin = std::fs::read_dir(aside).expect("a folder").flatten().next().expect("a copy");
    for (from, to) in [harness.path("aside/worktree"), admin.path()].iter().zip(to) {
        assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp").success());
    }
}

/// Runs the verbs that can follow a removal.
fn run_removal_and_restore(
    harness: &Harness,
    repo: &str,
    acknowledged: &mut BTreeMap<&'static str, &'static str>,
) {
    let place = harness.data().join("worktrees/three/project");
    run_ok(harness, &["trust", "--repo", repo, "--hash", &harness.teardown_hash(Path::new(repo))]);
    if run_ok(harness, &["new", "three", "--repo", repo]) {
        acknowledged.insert("three", "ready");
        harness.write(&place.join("target/debug/object"), "built\n");
    }
    run_ok(harness, &["clean", "three"]);
    run_ok(harness, &["clean", "three", "--undo"]);
    run_ok(harness, &["clean", "three"]);
    if place.exists() {
        harness.write(&place.join("notes/work"), WORK);
        // A file mode that git does not restore, and a nested repository.
        let key = place.join("notes/key");
        harness.write(&key, WORK);
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&key, private).expect("set");
        let inner = place.join("target/inner");
        harness.write(&inner.join("work"), WORK);
        harness.git(&inner, &["init", "-q"]);
        harness.commit(&inner, "inner work");
    }
    acknowledged.remove("three");
    let removed = run_ok(harness, &["rm", "three", "--force"]);
    // A foreign file occupies the path: the restore must fail and take nothing.
    let foreign = place.join("foreign");
    if removed {
        harness.write(&foreign, "not ours\n");
    }
    run_ok(harness, &["restore", "three"]);
    if removed {
        std::fs::remove_dir_all(place.parent().expect("a place")).expect("removed");
    }
    run_ok(harness, &["rm", "three"]);
    if run_ok(harness, &["restore", "three", "--incarnation", "1"]) {
        run_ok(harness, &["rm", "three", "--force"]);
    }
    run_ok(harness, &["trash", "empty"]);
    run_ok(harness, &["restore", "three"]);
    put_back(harness, repo);
    run_ok(harness, &["sweep", "--apply"]);
    drop(std::fs::remove_dir(harness.data().join("worktrees/two")));
    // Refused while the unlink of the same trash entry is being retried.
    (0..3).any(|_| run_ok(harness, &["rescue", "drop", "three", "--incarnation", "1"]));
}

const WORK: &str = "work that nothing else has\n";

/// Starts the next daemon, waits until it owes nothing, and checks all that was acknowledged.
fn settle_and_check(harness: &Harness, repo: &Path, acknowledged: &BTreeMap<&str, &str>) {
    let _daemon = Daemon::start(harness);
    harness.drain();
    for (id, phase) in acknowledged {
        assert_eq!(harness.phase(id), *phase, "{id} was acknowledged");
    }
    harness.check(&[repo]);
}

#[test]
fn every_kill_point_is_survived() {
    let (next, reached) = (Mutex::new(0), Mutex::new(BTreeSet::new()));
    let points: Vec<&str> = POINTS.iter().copied().filter(|p| !is_elsewhere(p)).collect();
    let work: Vec<(&str, u32)> =
        points.iter().flat_map(|p| (1..=3).map(move |times| (*p, times))).collect();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let n = {
                        let mut next = next.lock().expect("not poisoned");
                        *next += 1;
                        *next - 1
                    };
                    let Some((point, times)) = work.get(n) else { return };
                    if kill_at(point, *times) {
                        reached.lock().expect("not poisoned").insert(*point);
                    }
                }
            });
        }
    });
    let reached = reached.into_inner().expect("not poisoned");
    let missed: Vec<_> = points.iter().filter(|p| !reached.contains(**p)).collect();
    assert!(missed.is_empty(), "the main job never gets to {missed:?}");
    eprintln!("{} kill points, {} kills", points.len(), work.len());
}

/// Returns whether another test covers a kill point: `rescue_folding.rs`, for which many rescues
/// must exist, `log_trim.rs`, or one of migrations.
fn is_elsewhere(point: &str) -> bool {
    let families = ["trim.", "fold.", "pack."];
    is_of_migrations(point) || families.iter().any(|family| point.starts_with(family))
}

/// Returns whether a kill point belongs to migrations, which another test covers.
pub(crate) fn is_of_migrations(point: &str) -> bool {
    ["migrate.", "flip.", "takeover.", "undo.", "prune."]
        .iter()
        .any(|family| point.starts_with(family))
}

/// Returns whether the daemon reports that it owes nothing; false if it is dead.
fn is_at_rest(harness: &Harness) -> bool {
    let output = harness.command(&["--json", "--no-autostart", "ls"]).output().expect("runs");
    let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    all.as_array().is_some_and(|list| list.iter().all(|env| env["step"].is_null()))
}

/// Kills the daemon when it reaches a point for the nth time. Returns whether it reached it.
fn kill_at(point: &str, times: u32) -> bool {
    let harness = Harness::new();
    let repo = scene(&harness);
    let armed = format!("{point}:{times}");
    let mut daemon = Daemon::start_with(&harness, &[("GROUNDSKEEPER_KILL_AT", &armed)]);
    let acknowledged = run_main_job(&harness, &repo);
    if point.starts_with("refresh.") {
        // The refresh runs a second after the checkout, when the job may have ended already.
        wait_for("settled indexes", || daemon.is_dead() || is_at_rest(&harness));
    }
    // The kernel closes the connections slightly before the process has ended.
    let died = !run_ok(&harness, &["ls"]);
    if died {
        wait_for("the end of a killed daemon", || daemon.is_dead());
    }
    daemon.kill();
    eprintln!("killed at {armed}: {died}");
    settle_and_check(&harness, &repo, &acknowledged);
    died
}

#[test]
fn kill_during_recovery_is_survived() {
    for (first, second) in [
        ("add.branched", "rollback.directory_gone"),
        ("add.published", "add.published"),
        ("hook.noted", "hook.noted"),
        ("trash.moved", "unregister.moved"),
        ("rollback.directory_moved", "rollback.hidden"),
        ("engine.committed", "engine.committed"),
    ] {
        let harness = Harness::new();
        let repo = scene(&harness);
        let mut acknowledged = BTreeMap::new();
        for point in [first, second] {
            let mut daemon = Daemon::start_with(&harness, &[("GROUNDSKEEPER_KILL_AT", point)]);
            acknowledged.extend(run_main_job(&harness, &repo));
            daemon.kill();
        }
        settle_and_check(&harness, &repo, &acknowledged);
    }
}

#[test]
fn random_kills_lose_nothing_acknowledged() {
    let seed = u64::from(std::process::id());
    let mut random = seed | 1;
    let mut draw = |bound: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % bound
    };
    let harness = Harness::new();
    let repo = scene(&harness);
    let acknowledged: Mutex<BTreeMap<String, &str>> = Mutex::new(BTreeMap::new());
    let rounds = 25;
    for round in 0..rounds {
        let mut daemon = Daemon::start(&harness);
        run_ok(&harness, &["trust", "--repo", repo.to_str().expect("text")]);
        let until = Duration::from_millis(10 + draw(250));
        std::thread::scope(|scope| {
            for client in 0..4 {
                let (harness, repo, acknowledged) = (&harness, &repo, &acknowledged);
                scope.spawn(move || {
                    let repo = repo.to_str().expect("text");
                    for n in 0..3 {
                        let id =
                            format!("{}{round}-{client}-{n}", if n == 1 { "bad" } else { "e" });
                        let remember = |phase| {
                            acknowledged.lock().expect("not poisoned").insert(id.clone(), phase)
                        };
                        if run_ok(harness, &["new", &id, "--repo", repo]) {
                            remember("ready");
                        }
                        if n == 2 {
                            // Until the removal is acknowledged, both phases are correct.
                            acknowledged.lock().expect("not poisoned").remove(&id);
                            if run_ok(harness, &["rm", &id]) {
                                remember("tombstoned");
                            }
                        }
                    }
                });
            }
            sleep(until);
            daemon.kill();
        });
    }
    let _daemon = Daemon::start(&harness);
    harness.drain();
    let acknowledged = acknowledged.into_inner().expect("not poisoned");
    for (id, phase) in &acknowledged {
        // A removal of an id that was never created is acknowledged as well.
        let found = harness.phase(id);
        let unknown = *phase == "tombstoned" && found == "none";
        assert!(
            unknown || found == *phase,
            "seed {seed}: {id} is {found}, acknowledged as {phase}"
        );
    }
    eprintln!("seed {seed}: {rounds} kills, {} acknowledged", acknowledged.len());
    harness.check(&[&repo]);
}

#[test]
fn orphaned_hook_ends_before_successor_continues() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.hook(
        &repo,
        "#!/bin/sh\nd=\"$GROUNDSKEEPER_SOURCE/..\"\nif [ -e \"$d/first\" ]; then exit 0; fi\n\
         echo $$ > \"$d/first\"\nsleep 1000\n",
    );
    let mut daemon = Daemon::start(&harness);
    harness.ok(&["trust", "--repo", repo.to_str().expect("text")]);
    std::thread::scope(|scope| {
        scope.spawn(|| run_ok(&harness, &["new", "demo", "--repo", repo.to_str().expect("text")]));
        wait_for("the hook to run", || {
            std::fs::read_to_string(harness.path("first")).is_ok_and(|t| t.ends_with('\n'))
        });
        daemon.kill();
    });
    let pid = std::fs::read_to_string(harness.path("first")).expect("read").trim().to_owned();
    let pid: u32 = pid.parse().expect("a pid");
    // A zombie counts as ended: in a container there may be no process that reaps it.
    let lives = || groundskeeper::world::process::table::start_time(pid).expect("seen").is_some();
    assert!(lives(), "the hook survives the kill of its daemon");
    let _daemon = Daemon::start(&harness);
    harness.drain();
    assert!(!lives(), "the next daemon ends it");
    assert_eq!(harness.phase("demo"), "ready", "the next daemon runs the hook again");
    harness.check(&[&repo]);
}
