//! The `replay` tool on logs of real daemons: running, killed, forked, salvaged.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use sha2::Digest as _;

use crate::support::{Daemon, Harness, PROGRAM, wait_for};

/// Returns the path of the `replay` program. Builds it first if only the daemon's tests were built.
fn program() -> &'static Path {
    static PROGRAM_PATH: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM_PATH.get_or_init(|| {
        let path = Path::new(PROGRAM).with_file_name("replay");
        if !path.exists() {
            let mut build = Command::new(env!("CARGO"));
            build.args(["build", "--locked", "--quiet", "-p", "replay", "--target-dir"]);
            build.arg(path.parent().and_then(Path::parent).expect("a target directory"));
            let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).status();
            assert!(built.expect("cargo runs").success() && path.exists(), "replay is not built");
        }
        path
    })
}

pub(crate) struct CliOutput {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) fn replay(args: &[&str]) -> CliOutput {
    let output = Command::new(program()).args(args).stdin(Stdio::null()).output().expect("runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().unwrap_or(-1);
    CliOutput { code, out: text(&output.stdout), err: text(&output.stderr) }
}

pub(crate) fn json(args: &[&str]) -> Value {
    let mut all = args.to_vec();
    all.push("--json");
    let printed = replay(&all);
    assert_eq!(printed.code, 0, "{args:?}: {} {}", printed.out, printed.err);
    serde_json::from_str(&printed.out).expect("one object")
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

fn sum(path: &Path) -> Vec<u8> {
    sha2::Sha256::digest(std::fs::read(path).expect("read")).to_vec()
}

/// After a kill at any commit, every verb reads the log, no rule is broken, no byte changes, and
/// the owed steps are those that the next daemon finishes.
#[test]
fn killed_daemon_log_is_readable() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let file = harness.data().join("log.redb");
    for commit in [3, 4, 6] {
        let point = format!("engine.committed:{commit}");
        let mut daemon = Daemon::start_with(&harness, &[("GROUNDSKEEPER_KILL_AT", &point)]);
        let id = format!("e{commit}");
        harness.gk(&["--no-autostart", "new", &id, "--repo", text(&repo)]);
        daemon.kill();
        let before = sum(&file);
        for verb in ["list", "at", "owed", "stats", "verify", "timeline", "check-replay"] {
            let printed = replay(&[verb, text(&harness.data())]);
            assert_eq!(printed.code, 0, "{verb}: {} {}", printed.out, printed.err);
            assert_eq!(printed.err, "", "{verb} has no warning");
        }
        let owed = json(&["owed", text(&file)]);
        assert!(owed["partial"].is_null(), "{owed:#}");
        assert!(sum(&file) == before, "the input file was changed");
        let daemon = Daemon::start(&harness);
        wait_for("the environment", || {
            let (_, shown) = harness.gk(&["--no-autostart", "show", &id]);
            shown["phase"] == "ready" || shown["error"]["code"] == "environment_not_found"
        });
        daemon.terminate();
    }
    for shown in harness.ok(&["ls"]).as_array().expect("a list") {
        harness.ok(&["rm", shown["id"].as_str().expect("an id"), "--force"]);
    }
    harness.check(&[&repo]);
    harness.ok(&["stop"]);
}

#[test]
fn running_daemon_is_read_through_socket() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let _daemon = Daemon::start(&harness);
    harness.new_env("demo", &repo, &[]);
    harness.ok(&["rm", "demo", "--force"]);
    let (data, file) = (harness.data(), harness.data().join("log.redb"));
    for path in [&data, &file] {
        let printed = replay(&["verify", text(path)]);
        assert!(printed.code == 0 && printed.err.contains("through its socket"), "{}", printed.err);
    }
    let checked = json(&["check-replay", text(&data)]);
    assert_eq!(checked["live"]["sha256"].as_str().map(str::len), Some(64), "{checked:#}");
    assert_eq!(checked["diverged"], serde_json::json!([]));
    let answer = replay(&["explain", text(&data), "demo"]);
    assert!(answer.out.contains("its removal was requested by api"), "{}", answer.out);
    let flat = harness.path("copy.flat");
    assert_eq!(replay(&["export", text(&data), "--format", "flat", "-O", text(&flat)]).code, 0);
    let copied = json(&["stats", text(&flat)])["records"].as_u64().expect("a number");

    // The last matching record shows that the follower is connected; new records come after it.
    let mut follow = Command::new(program())
        .args(["list", text(&data), "--follow", "--last", "1", "-k", "ProvisionRequested"])
        .arg("--json")
        .stdout(Stdio::piped())
        .spawn()
        .expect("runs");
    let mut lines = BufReader::new(follow.stdout.take().expect("piped")).lines();
    let mut next = || -> Value {
        let line = lines.next().expect("a line").expect("read");
        serde_json::from_str(&line).expect("json")
    };
    let known = next();
    assert_eq!(
        (&known["kind"], &known["environment"]),
        (&"ProvisionRequested".into(), &"demo".into())
    );
    harness.new_env("next", &repo, &[]);
    let first = next();
    assert_eq!(
        (&first["kind"], &first["environment"]),
        (&"ProvisionRequested".into(), &"next".into())
    );
    assert!(first["seq"].as_u64() > Some(copied), "{first}");
    harness.ok(&["stop"]);
    // The follower ends with the daemon.
    assert!(follow.wait().expect("ended").success());
    let printed = replay(&["list", text(&data), "--follow"]);
    assert!(printed.code == 2 && printed.err.contains("no daemon answers"), "{}", printed.err);
    let after = json(&["verify", text(&data)]);
    assert!(after["ok"] == true && after["records"].as_u64() > Some(copied), "{after}");
}

/// A daemon starts on a forked or salvaged log.
#[test]
fn daemon_starts_on_fork_or_salvage() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.new_env("kept", &repo, &[]);
    harness.new_env("demo", &repo, &[]);
    harness.ok(&["rm", "demo", "--force"]);
    harness.ok(&["stop"]);
    let log = harness.data().join("log.redb");
    let ready = replay(&["list", text(&log), "-k", "EnvironmentReady", "-e", "demo", "--json"]);
    let ready: Value = serde_json::from_str(ready.out.trim()).expect("json");
    let seq = ready["seq"].to_string();

    let fork = harness.path("fork.redb");
    assert_eq!(replay(&["fork", text(&log), "--at", &seq, text(&fork)]).code, 0);
    assert_eq!(json(&["verify", text(&fork)])["last"].to_string(), seq);

    // The first page, which every open of the file reads, is destroyed.
    let mut bytes = std::fs::read(&log).expect("read");
    bytes[..4_096].fill(0);
    let broken = harness.path("broken.redb");
    std::fs::write(&broken, &bytes).expect("written");
    let saved = harness.path("saved.redb");
    let report = json(&["salvage", text(&broken), text(&saved)]);
    assert_eq!(report["lost"], 0, "{report:#}");
    std::fs::rename(&saved, &log).expect("installed");
    // The salvaged log has the same identity, so its environments are still managed.
    assert_eq!(harness.phase("kept"), "ready");
    harness.ok(&["restore", "demo"]);
    harness.ok(&["rm", "demo", "--force"]);
    harness.ok(&["rm", "kept"]);
    harness.check(&[&repo]);
    harness.ok(&["stop"]);

    let other = Harness::new();
    std::fs::create_dir(other.data()).expect("a folder");
    std::fs::copy(&fork, other.data().join("log.redb")).expect("installed");
    let listed = other.ok(&["ls"]);
    let ids: Vec<&str> =
        listed.as_array().expect("a list").iter().filter_map(|e| e["id"].as_str()).collect();
    assert_eq!(ids, ["demo", "kept"]);
    other.ok(&["stop"]);
}
