//! Processes of an environment: `exec`, `ps`, and that a removal ends all of them.

use std::path::Path;
use std::process::Stdio;

use groundskeeper::world::process::table;

use crate::support::{Daemon, Harness, wait_for};

/// Five servers, each of which detaches from its starter in a different way.
const ESCAPES: [(&str, &str); 5] = [
    ("group", "sleep 1001 & echo $! > $D/group"),
    ("session", "setsid sh -c 'echo $$ > $D/session; exec sleep 1002' >/dev/null 2>&1 &"),
    (
        "elsewhere",
        "(cd / && setsid sh -c 'echo $$ > $D/elsewhere; exec sleep 1003' >/dev/null 2>&1 &)",
    ),
    (
        "forgetful",
        "setsid env -i D=\"$D\" sh -c 'echo $$ > $D/forgetful; exec sleep 1004' >/dev/null 2>&1 &",
    ),
    (
        "everything",
        "(cd / && setsid env -i D=\"$D\" sh -c 'sh -c \"echo \\$\\$ > \\$D/everything; exec sleep 1005\" \
         & exit' >/dev/null 2>&1 &)",
    ),
];

fn pid_in(path: &Path) -> Option<u32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn is_running(pid: u32) -> bool {
    table::start_time(pid).expect("seen").is_some()
}

fn escape_script(folder: &Path) -> String {
    let lines: Vec<&str> = ESCAPES.iter().map(|(_, line)| *line).collect();
    format!("#!/bin/sh\nexport D='{}'\n{}\nsleep 0.1\n", folder.display(), lines.join("\n"))
}

fn await_started(folder: &Path) -> Vec<u32> {
    wait_for("all servers", || {
        ESCAPES.iter().all(|(name, _)| pid_in(&folder.join(name)).is_some())
    });
    ESCAPES.iter().filter_map(|(name, _)| pid_in(&folder.join(name))).collect()
}

/// The processes detach in five ways, such as a new session or cleared variables.
#[test]
fn hook_processes_end_with_environment() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let folder = harness.path("pids");
    std::fs::create_dir(&folder).expect("a folder");
    harness.hook(&repo, &escape_script(&folder));
    let _daemon = Daemon::start(&harness);
    harness.ok(&["trust", "--repo", repo.to_str().expect("text")]);
    harness.new_env("demo", &repo, &[]);
    let pids = await_started(&folder);
    assert!(pids.iter().all(|pid| is_running(*pid)), "the processes outlive the hook");
    let listed = harness.ok(&["ps", "demo"]).to_string();
    for pid in &pids {
        assert!(listed.contains(&format!("\"pid\":{pid}")), "{pid} is not in {listed}");
    }
    let removed = harness.ok(&["rm", "demo", "--force"]);
    for (pid, (name, _)) in pids.iter().zip(ESCAPES) {
        assert!(!is_running(*pid), "{name} outlives its environment");
    }
    assert!(removed["survivors"].as_array().is_some_and(Vec::is_empty), "{removed:#}");
    harness.check(&[&repo]);
}

#[test]
fn exec_processes_end_with_environment() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let folder = harness.path("pids");
    std::fs::create_dir(&folder).expect("a folder");
    let script = harness.path("escape");
    harness.write(&script, &escape_script(&folder));
    harness.new_env("demo", &repo, &[]);
    let ran = harness.command(&["exec", "demo", "--", "sh", script.to_str().expect("text")]);
    let ran = { ran }.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("runs");
    assert!(ran.success());
    let pids = await_started(&folder);
    // Without cgroups, a process that detaches in every way at once cannot be found.
    let groups =
        groundskeeper::world::process::cgroup::Cgroups::find("test-of-groups").is_available();
    harness.ok(&["rm", "demo", "--force"]);
    for (pid, (name, _)) in pids.iter().zip(ESCAPES) {
        assert!(!is_running(*pid) || (!groups && name == "everything"), "{name} is left");
    }
}

/// The exit code is passed, too.
#[test]
fn exec_holds_lease_and_passes_streams() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("demo", &repo, &[]);
    let mut command = harness.command(&[
        "exec",
        "demo",
        "--",
        "sh",
        "-c",
        "pwd; echo $GROUNDSKEEPER_ENV; cat; exit 7",
    ]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started");
    wait_for("the lease", || {
        harness.ok(&["show", "demo"])["leases"].as_array().is_some_and(|l| !l.is_empty())
    });
    let (code, error) = harness.refused(&["rm", "demo"]);
    assert_eq!((code, error["code"].as_str()), (4, Some("environment_busy")), "{error:#}");
    assert!(error["evidence"].to_string().contains("exec sh"), "{error:#}");
    drop(child.stdin.take().map(|mut stdin| std::io::Write::write_all(&mut stdin, b"typed\n")));
    let output = child.wait_with_output().expect("ended");
    assert_eq!(output.status.code(), Some(7));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(printed, format!("{}\ndemo\ntyped\n", path.display()));
    let leases = harness.ok(&["show", "demo"])["leases"].clone();
    assert!(leases.as_array().is_some_and(Vec::is_empty), "the lease is released: {leases}");
    let (code, error) = harness.refused(&["exec", "demo", "--", "no-such-program"]);
    assert_eq!((code, error["code"].as_str()), (127, Some("path_not_found")));
    harness.write(&path.join("plain"), "no program\n");
    let (code, error) = harness.refused(&["exec", "demo", "--", "./plain"]);
    assert_eq!((code, error["code"].as_str()), (126, Some("permission_denied")), "{error}");
    std::fs::remove_file(path.join("plain")).expect("removed");
    harness.ok(&["rm", "demo"]);
    assert_eq!(harness.refused(&["exec", "demo", "--", "true"]).0, 3);
}

/// A process elsewhere with an open file is reported and spared; one that works inside is ended.
#[test]
fn outside_bystander_is_spared() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("demo", &repo, &[]);
    // A process elsewhere that reads a file of the environment.
    let mut reader = std::process::Command::new("sleep");
    let file = std::fs::File::open(path.join("README")).expect("a file");
    let mut reader = reader.arg("1006").stdin(file).current_dir("/").spawn().expect("started");
    // A process with its working directory in the environment that the program did not start.
    let mut stranger = std::process::Command::new("sleep");
    let mut stranger = stranger.arg("1007").current_dir(&path).spawn().expect("started");
    let listed = harness.ok(&["ps", "demo"]);
    let fate = |pid: u32| {
        let found = listed.as_array().expect("a list").iter().find(|p| p["pid"] == pid).cloned();
        found.unwrap_or_else(|| panic!("{pid} is not in {listed}"))["ours"].clone()
    };
    assert_eq!((fate(reader.id()), fate(stranger.id())), (false.into(), true.into()));
    let removed = harness.ok(&["rm", "demo"]);
    let spared = removed["spared"].to_string();
    assert!(spared.contains(&format!("\"pid\":{}", reader.id())), "{removed:#}");
    assert!(is_running(reader.id()), "the reader is spared");
    assert!(!is_running(stranger.id()), "a process inside was ended");
    drop(reader.kill());
    drop((reader.wait(), stranger.wait()));
}

#[test]
fn process_in_deleted_directory_ends() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("demo", &repo, &[]);
    let inside = path.join("target/deep");
    std::fs::create_dir_all(&inside).expect("a folder");
    let mut server = std::process::Command::new("sleep");
    let mut server = server.arg("1008").current_dir(&inside).spawn().expect("started");
    std::fs::remove_dir_all(path.join("target")).expect("removed");
    harness.ok(&["rm", "demo"]);
    assert!(!is_running(server.id()));
    drop(server.wait());
}

/// The requester runs inside the environment that it removes.
#[test]
fn stubborn_process_is_killed_requester_spared() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("demo", &repo, &[]);
    let program = harness.path("ask");
    // An agent that removes the environment it runs in.
    harness.write(
        &program,
        &format!(
            "#!/bin/sh\ncd '{}'\nsh -c 'trap \"\" TERM; sleep 1009; sleep 1009' &\necho $! > {}\n\
             sleep 0.1\n'{}' --data-dir '{}' rm demo\necho survived\n",
            path.display(),
            harness.path("stubborn").display(),
            crate::support::PROGRAM,
            harness.data().display()
        ),
    );
    let mut agent = std::process::Command::new("sh");
    let output = agent.arg(&program).output().expect("runs");
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "survived\n", "{printed}");
    assert!(printed.contains("left alone"), "{printed}");
    let stubborn = pid_in(&harness.path("stubborn")).expect("a pid");
    assert!(!is_running(stubborn), "it was killed");
    assert!(!path.exists());
    harness.check(&[&repo]);
}
