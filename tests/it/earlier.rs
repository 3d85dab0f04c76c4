//! Opens a data directory of an earlier release, continues its work, and undoes what can be undone.
//! `tests/fixtures/data/made.sh` describes its content.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use groundskeeper::journal::inspect;
use groundskeeper::journal::inspect::Depth;
use serde_json::{Value, json};

use crate::recorded_rows::recorded;
use crate::relocate;
use crate::restore::{index_of, snapshot};
use crate::support::{Daemon, Harness};

/// One data directory of each format.
const GENERATIONS: [&str; 2] = ["data/generation-1.tar.xz", "data/generation-2.tar.xz"];

struct Scene {
    harness: Harness,
    repo: PathBuf,
}

impl Scene {
    fn new(archive: &str) -> Self {
        let harness = relocate::lay_out(archive);
        let repo = harness.path("project");
        Self { harness, repo }
    }

    /// Runs a test on the data directory of each earlier release.
    fn each(test: impl Fn(Self)) {
        for archive in GENERATIONS {
            println!("{archive}");
            test(Self::new(archive));
        }
    }

    /// Returns a recorded answer of the earlier release.
    fn answer(&self, name: &str) -> Value {
        recorded(&self.harness.path(format!("facts/{name}.json")))
    }

    fn path_of(&self, id: &str) -> PathBuf {
        self.harness.data().join("worktrees").join(id).join("project")
    }

    /// Returns the copy of a worktree as the earlier release left it.
    fn copy_of(&self, id: &str) -> PathBuf {
        self.harness.path("copies").join(id)
    }

    fn check_unchanged(&self, id: &str) {
        let (then, now) = (self.copy_of(id), self.path_of(id));
        assert_eq!(snapshot(&now), snapshot(&then), "every byte, mode and age of {id}");
    }

    fn refs(&self, below: &str) -> String {
        self.harness.git(&self.repo, &["for-each-ref", "--format=%(objectname) %(refname)", below])
    }

    /// Returns the commit of a ref, or none if the ref does not exist.
    fn commit_of(&self, reference: &str) -> Option<String> {
        let found = self.harness.git_raw(&self.repo, &["rev-parse", "-q", "--verify", reference]);
        let text = String::from_utf8_lossy(&found.stdout).trim().to_owned();
        found.status.success().then_some(text)
    }

    fn changes(&self, id: &str) -> String {
        self.harness.git(&self.path_of(id), &["status", "--porcelain", "--ignored"])
    }

    fn restore(&self, id: &str, incarnation: u32) -> Value {
        let restored = self.harness.ok(&["restore", id]);
        let wanted = json!(["ready", incarnation, self.path_of(id).to_str()]);
        let found = json!([restored["phase"], restored["incarnation"], restored["path"]]);
        assert_eq!(found, wanted, "{restored:#}");
        restored
    }

    fn verify(&self) -> u64 {
        self.harness.check_log();
        let log = self.harness.data().join("log.redb");
        let found = inspect(&log, Depth::Everything, &mut |_, _| {}).expect("an intact log");
        // Old records are trimmed in time.
        let trimmed = found.first.0 - 1;
        assert_eq!(trimmed + found.folded, found.head.seq, "from the first record on");
        found.head.seq
    }
}

/// Selects fields of one object, or of each element of a list.
fn select(value: &Value, keys: &[&str]) -> Value {
    match value.as_array() {
        Some(list) => list.iter().map(|one| select(one, keys)).collect(),
        None => keys.iter().map(|key| without_later(value[*key].clone())).collect(),
    }
}

/// Returns a value without the fields of a problem that the earlier version did not have.
fn without_later(mut value: Value) -> Value {
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|name, _| !["title", "detail"].contains(&name.as_str()));
    }
    value
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

fn ids(list: &Value) -> BTreeSet<&str> {
    list.as_array().expect("a list").iter().map(|one| text(&one["id"])).collect()
}

const DIRTY: &str = " M README\n D folder/3.txt\nA  staged\n?? \"new folder/\"\n?? script\n\
                     !! local.env\n!! rows.db";

#[test]
fn earlier_log_verifies_before_and_after() {
    Scene::each(|scene| {
        let before = scene.verify();
        assert!(before > 100, "only {before} records");
        scene.harness.ok(&["ls"]);
        scene.harness.ok(&["stop"]);
        assert!(scene.verify() > before, "the new daemon appended records");
    });
}

/// Keys of an environment that every version shows.
const LISTED: [&str; 16] = [
    "id",
    "incarnation",
    "phase",
    "path",
    "branch",
    "base",
    "base_ref",
    "repo",
    "created_at",
    "adopted",
    "checkout",
    "trash",
    "leftovers",
    "error",
    "step",
    "transcript",
];

/// Keys of an archive that every version shows.
const ARCHIVED: [&str; 15] = [
    "id",
    "incarnation",
    "removed_at",
    "trash",
    "expires_at",
    "bytes",
    "entries",
    "purge",
    "error",
    "rescue",
    "commit",
    "holds",
    "lacks",
    "repo",
    "branch",
];

#[test]
fn earlier_environments_are_shown_unchanged() {
    Scene::each(|scene| {
        let harness = &scene.harness;
        let (then, now) = (scene.answer("ls"), harness.ok(&["ls", "--all"]));
        assert_eq!(select(&now, &LISTED), select(&then, &LISTED));
        let phases: Vec<&str> =
            ["clean", "failed", "rescued", "theirs", "tidied", "twice", "undone"]
                .iter()
                .map(|id| {
                    let of = |e: &&Value| e["id"] == **id;
                    text(&now.as_array().expect("a list").iter().find(of).expect("listed")["phase"])
                })
                .collect();
        let wanted = ["ready", "failed", "tombstoned", "ready", "tombstoned", "ready", "failed"];
        assert_eq!(phases, wanted);
        assert_eq!(harness.ok(&["show", "clean"])["leases"], json!([]), "its lease had ended");

        for (verb, answer) in [("trash", "trash"), ("rescue", "rescues")] {
            let now = harness.ok(&[verb, "ls"]);
            assert_eq!(select(&now, &ARCHIVED), select(&scene.answer(answer), &ARCHIVED));
        }
        let keys = ["id", "incarnation", "branch", "head", "base", "clean", "changes", "files"];
        let then = scene.answer("status");
        let of = |list: &Value| {
            let list = list.as_array().expect("a list").iter();
            list.map(|one| select(&one["status"], &keys)).collect::<Value>()
        };
        assert_eq!(of(&harness.ok(&["status"])), of(&then));
        let refs = std::fs::read_to_string(harness.path("facts/refs")).expect("read");
        assert_eq!(scene.refs("refs/"), refs.trim_end(), "no ref was touched");
        for id in ["dirty", "twice"] {
            scene.check_unchanged(id);
        }
    });
}

/// A clean one is removed and made again; one with work at risk is refused, then rescued.
#[test]
fn earlier_environments_can_be_recreated() {
    Scene::each(|scene| {
        let harness = &scene.harness;
        // A clean environment: nothing to save, and its name starts another incarnation.
        let base = scene.commit_of("refs/heads/gk/clean").expect("a branch");
        let removed = harness.ok(&["rm", "clean"]);
        assert_eq!(
            select(&removed, &["phase", "incarnation", "rescue"]),
            json!(["tombstoned", 1, []])
        );
        assert!(Path::new(text(&removed["trash"])).join("README").exists(), "{removed:#}");
        assert!(!scene.path_of("clean").exists());
        assert_eq!(
            scene.commit_of("refs/heads/gk/clean"),
            None,
            "the branch had no commits of its own"
        );
        let made = harness.new_env("clean", &scene.repo, &[]);
        assert_eq!(harness.ok(&["show", "clean"])["incarnation"], 2);
        assert_eq!(harness.git(&made, &["rev-parse", "HEAD"]), base);
        assert_eq!(scene.changes("clean"), "!! local.env", "the setup hook is trusted as before");

        // An environment with work: refused for the same reasons as then, without any change to it.
        assert_eq!(scene.changes("dirty"), DIRTY);
        let index = index_of(harness, &scene.path_of("dirty"));
        let (code, error) = harness.refused(&["rm", "dirty"]);
        let then = scene.answer("refused");
        assert_eq!((code, &error["code"]), (1, &json!("unsafe_to_remove")));
        assert_eq!(error["evidence"], then["error"]["evidence"]);
        scene.check_unchanged("dirty");
        let removed = harness.ok(&["rm", "dirty", "--force"]);
        let reference = text(&removed["rescue"][0]);
        assert!(scene.commit_of(reference).is_some(), "{removed:#}");
        let staged = harness.git(&scene.repo, &["show", &format!("{reference}:staged")]);
        assert_eq!(staged, "staged in dirty");
        assert!(!scene.path_of("dirty").exists());
        scene.restore("dirty", 2);
        scene.check_unchanged("dirty");
        assert_eq!(index_of(harness, &scene.path_of("dirty")), index);
        assert_eq!(scene.changes("dirty"), DIRTY);
        assert_eq!(harness.git(&scene.path_of("dirty"), &["branch", "--show-current"]), "gk/dirty");

        // The removal of a second incarnation has its own rescue ref; a third incarnation follows.
        let removed = harness.ok(&["rm", "twice", "--force"]);
        assert_eq!(removed["incarnation"], 2, "{removed:#}");
        let first = scene.answer("rm-twice");
        let (first, second) = (text(&first["rescue"][0]), text(&removed["rescue"][0]));
        assert_ne!(first, second, "each incarnation has its own rescue");
        assert!(scene.commit_of(first).is_some() && scene.commit_of(second).is_some());
        scene.restore("twice", 3);
        scene.check_unchanged("twice");
    });
}

#[test]
fn earlier_archives_can_be_restored() {
    Scene::each(|scene| {
        let harness = &scene.harness;
        let (code, error) = harness.refused(&["show", "trashed"]);
        assert_eq!((code, &error["code"]), (3, &json!("environment_destroyed")));
        // Restored from the trash, which still holds everything.
        let tip = scene.commit_of("refs/heads/gk/trashed");
        let put_away = harness.path("project/.git/groundskeeper").read_dir().expect("a folder");
        let mut put_away = put_away.map(|entry| entry.expect("an entry").path());
        let of = |path: &PathBuf| path.to_string_lossy().contains("/gk-trashed-1-");
        let index = put_away.find(of).expect("a registration").join("index");
        let index = std::fs::read(index).expect("an index");
        let restored = scene.restore("trashed", 2);
        assert_eq!(restored["branch"], "gk/trashed");
        scene.check_unchanged("trashed");
        assert_eq!(index_of(harness, &scene.path_of("trashed")), index);
        assert_eq!(scene.changes("trashed"), DIRTY);
        assert_eq!(scene.commit_of("refs/heads/gk/trashed"), tip);
        // Also from the trash, with a branch that was deleted at the removal.
        assert_eq!(scene.commit_of("refs/heads/gk/tidied"), None);
        scene.restore("tidied", 2);
        scene.check_unchanged("tidied");
        assert_eq!(scene.commit_of("refs/heads/gk/tidied"), scene.commit_of("refs/heads/main"));
        assert_eq!(scene.changes("tidied"), "!! local.env");
        // From the rescue ref alone: ignored files are lost, as the removal reported.
        let reference = scene.answer("rm-rescued")["rescue"][0].clone();
        let held = scene.commit_of(text(&reference));
        scene.restore("rescued", 2);
        let content = |root: &Path| {
            let mut found = snapshot(root);
            found.retain(|path, _| !path.extension().is_some_and(|e| e == "db" || e == "env"));
            let kept = |(path, (mode, _, bytes))| (path, (mode, bytes));
            found.into_iter().map(kept).collect::<Vec<(PathBuf, (u32, Vec<u8>))>>()
        };
        let (then, now) = (scene.copy_of("rescued"), scene.path_of("rescued"));
        assert_eq!(content(&now), content(&then));
        assert!(!now.join("rows.db").exists());
        assert!(
            scene.changes("rescued").starts_with(&DIRTY[..DIRTY.find("\n!!").expect("ignored")])
        );
        assert_eq!(scene.commit_of(text(&reference)), held, "a rescue stays until it is dropped");
    });
}

#[test]
fn earlier_archives_drop_on_request_only() {
    Scene::each(|scene| {
        let harness = &scene.harness;
        for id in ["rescued", "trashed", "twice"] {
            let shown = harness.ok(&["rescue", "show", id]);
            let reference = text(&shown["rescue"]);
            assert_eq!(
                scene.answer(&format!("rm-{id}"))["rescue"],
                json!([reference]),
                "{shown:#}"
            );
            assert_eq!(scene.commit_of(reference).as_deref(), shown["commit"].as_str());
            let show =
                |what: &str| harness.git(&scene.repo, &["show", &format!("{reference}{what}")]);
            assert_eq!(show(":staged"), format!("staged in {id}"));
            assert_eq!(show("^1:committed"), format!("commit of {id}"));
            assert_eq!(show(":new folder/file"), format!("untracked in {id}"));
        }
        let reference = scene.answer("rm-twice")["rescue"][0].clone();
        harness.ok(&["rescue", "drop", "twice"]);
        assert_eq!(scene.commit_of(text(&reference)), None);
        assert_eq!(harness.refused(&["rescue", "drop", "twice"]).0, 3);
        assert_eq!(ids(&harness.ok(&["rescue", "ls"])), BTreeSet::from(["rescued", "trashed"]));
        scene.check_unchanged("twice");

        let listed = harness.ok(&["trash", "ls"]);
        let trash = |id: &str| {
            let of = |one: &&Value| one["id"] == id;
            let one = listed.as_array().expect("a list").iter().find(of).expect("in the trash");
            PathBuf::from(text(&one["trash"]))
        };
        harness.ok(&["trash", "empty", "tidied"]);
        assert!(!trash("tidied").exists() && trash("trashed").exists() && trash("undone").exists());
        assert_eq!(snapshot(&trash("trashed")), snapshot(&scene.copy_of("trashed")));
        assert_eq!(ids(&harness.ok(&["trash", "ls"])), BTreeSet::from(["trashed", "undone"]));
        harness.ok(&["trash", "empty"]);
        assert!(!trash("trashed").exists() && !trash("undone").exists());
        assert_eq!(harness.ok(&["trash", "ls"]), json!([]));
        // After the trash is empty, the rescue ref still restores the work.
        scene.restore("trashed", 2);
        let staged = std::fs::read(scene.path_of("trashed").join("staged")).expect("back");
        assert_eq!(staged, b"staged in trashed\n");
    });
}

/// A failed one is removed or made again; an adopted one is released and not changed.
#[test]
fn earlier_failed_and_adopted_can_end() {
    Scene::each(|scene| {
        let harness = &scene.harness;
        assert!(scene.path_of("failed").join("README").exists());
        assert_eq!(harness.ok(&["rm", "failed"])["phase"], "tombstoned");
        assert!(!scene.path_of("failed").exists());
        let repo = scene.repo.to_str().expect("text");
        for id in ["failed", "undone"] {
            let (code, error) = harness.refused(&["new", id, "--repo", repo]);
            assert_eq!((code, &error["code"]), (2, &json!("hook_failed")), "{error:#}");
            assert_eq!(error["evidence"][0], "setting up", "trusted as before");
            assert_eq!(harness.ok(&["show", id])["incarnation"], 2);
        }
        // An adopted worktree is released and not changed.
        let path = harness.path("theirs");
        let before = (snapshot(&path), std::fs::read(path.join(".git")).expect("read"));
        assert_eq!(harness.refused(&["clean", "theirs"]).1["code"], "not_ours");
        assert_eq!(harness.ok(&["rm", "theirs", "--force"])["phase"], "tombstoned");
        assert_eq!((snapshot(&path), std::fs::read(path.join(".git")).expect("read")), before);
        assert!(scene.commit_of("refs/heads/theirs").is_some());
        let listed = harness.git(&scene.repo, &["worktree", "list", "--porcelain"]);
        assert!(listed.lines().any(|l| l.strip_prefix("worktree ") == path.to_str()), "{listed}");
        // Names with an earlier incarnation start their next one.
        for id in ["tidied", "rescued"] {
            let branch = format!("other/{id}");
            harness.git(&scene.repo, &["branch", &branch, "main"]);
            harness.new_env(id, &scene.repo, &["--branch", &branch]);
            assert_eq!(harness.ok(&["show", id])["incarnation"], 2);
        }
        assert!(ids(&harness.ok(&["trash", "ls"])).contains("tidied"), "the first one stays");
    });
}

#[test]
fn earlier_migration_can_be_undone() {
    Scene::each(|scene| {
        let harness = &scene.harness;
        let database = harness.path("app/data/data.db");
        let read = |path: &str| std::fs::read(harness.path(path)).expect("read");
        let text_of = database.to_str().expect("text");
        let status = harness.ok(&["migrate", "status", text_of]);
        let keys = ["phase", "migrated", "backup", "warnings", "report"];
        assert_eq!(select(&status, &keys), select(&scene.answer("migrations"), &keys));
        assert_ne!(read("app/data/data.db"), read("copies/data.db"));
        let undone = harness.ok(&["migrate", "undo", text_of]);
        assert_eq!(undone["phase"], "undone", "{undone:#}");
        assert_eq!(read("app/data/data.db"), read("copies/data.db"));
        assert_eq!(read("app/xdg/auth.json"), read("copies/auth.json"));
        assert!(
            !Path::new(text(&status[0]["backup"])).exists(),
            "the backup became the database again"
        );
        assert_eq!(harness.refused(&["migrate", "undo", text_of]).0, 3);
    });
}

#[test]
fn killed_daemon_successor_continues() {
    Scene::each(|scene| {
        let harness = &scene.harness;
        let mut daemon = Daemon::start(harness);
        harness.ok(&["rm", "clean"]);
        harness.ok(&["rm", "dirty", "--force"]);
        let before = harness.ok(&["ls", "--all"]);
        daemon.kill();
        scene.verify();
        let daemon = Daemon::start(harness);
        let keys = ["id", "incarnation", "phase", "path", "branch", "base", "trash", "created_at"];
        assert_eq!(select(&harness.ok(&["ls", "--all"]), &keys), select(&before, &keys));
        scene.restore("dirty", 2);
        scene.check_unchanged("dirty");
        assert!(daemon.terminate().success());
        scene.verify();
    });
}

/// A sweep finds nothing foreign among it.
#[test]
fn earlier_data_is_all_removable() {
    Scene::each(|scene| {
        let harness = &scene.harness;
        let report = harness.ok(&["sweep"]);
        assert_eq!(report["found"], 0, "nothing is foreign or left: {report:#}");
        let all = harness.ok(&["ls", "--all"]);
        for id in ids(&all) {
            harness.ok(&["rm", id, "--force"]);
        }
        harness.drain();
        // The adopted worktree is foreign again.
        let report = harness.ok(&["sweep"]);
        let theirs = json!([[harness.path("theirs"), false]]);
        // A child that another thread was starting may have kept a lock for a moment.
        let mut findings = report["findings"].as_array().expect("a list").clone();
        findings.retain(|finding| finding["kind"] != "lock");
        assert_eq!(select(&findings.into(), &["path", "ours"]), theirs, "{report:#}");
        assert_eq!(std::fs::read(harness.path("theirs/work")).expect("kept"), b"not ours\n");
        harness.git(&scene.repo, &["worktree", "remove", "--force", "../theirs"]);
        harness.check(&[&scene.repo]);
        harness.ok(&["trash", "empty"]);
        for kept in harness.ok(&["rescue", "ls"]).as_array().expect("a list") {
            let incarnation = kept["incarnation"].to_string();
            harness.ok(&["rescue", "drop", text(&kept["id"]), "--incarnation", &incarnation]);
        }
        harness.drain();
        assert_eq!(scene.refs("refs/groundskeeper"), "", "no ref of ours is left");
        for folder in ["worktrees", "trash"] {
            let left = harness.data().join(folder).read_dir().expect("a folder").count();
            assert_eq!(left, 0, "{folder}");
        }
        harness.check(&[&scene.repo]);
    });
}

/// Covers a clock more than a year ahead, and one behind that of the earlier release.
#[test]
fn age_does_not_prevent_opening() {
    const DAYS: i64 = 24 * 3600;
    // More than a year later, and with a clock that is behind that of the earlier release.
    for seconds in [400 * DAYS, -4_000 * DAYS] {
        Scene::each(|scene| {
            let harness = &scene.harness;
            let clock = harness.path("clock");
            std::fs::write(&clock, seconds.to_string()).expect("written");
            let clock = clock.to_str().expect("text");
            let daemon = Daemon::start_with(harness, &[("GROUNDSKEEPER_CLOCK_FILE", clock)]);
            let lease = scene.answer("lease");
            let held = select(&harness.ok(&["show", "leased"])["leases"], &["id"]);
            if seconds > 0 {
                assert_eq!(held, json!([]), "the lease has expired");
            } else {
                assert_eq!(held, json!([[lease["id"]]]));
                let (code, error) = harness.refused(&["rm", "leased"]);
                assert_eq!((code, &error["code"]), (4, &json!("environment_busy")));
                harness.ok(&["release", text(&lease["id"])]);
            }
            assert_eq!(harness.ok(&["rm", "leased"])["phase"], "tombstoned");
            scene.restore("leased", 2);
            // Nothing expired by itself in that time.
            scene.restore("trashed", 2);
            scene.check_unchanged("trashed");
            scene.restore("rescued", 2);
            harness.ok(&[
                "migrate",
                "undo",
                harness.path("app/data/data.db").to_str().expect("text"),
            ]);
            assert!(daemon.terminate().success());
            scene.verify();
        });
    }
}
