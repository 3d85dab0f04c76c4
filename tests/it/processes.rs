//! Processes of an environment: `exec`, `ps`, and that a removal ends all of them.

use std::path::Path;
use std::process::Stdio;

use groundskeeper::world::process::table;

use crate::support::{Bench, Daemon, wait_for};

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
    table::start_time(pid).is_some()
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
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let folder = bench.path("pids");
    std::fs::create_dir(&folder).expect("a folder");
    bench.hook(&repo, &escape_script(&folder));
    let _daemon = Daemon::start(&bench);
    bench.ok(&["trust", "--repo", repo.to_str().expect("text")]);
    bench.new_env("demo", &repo, &[]);
    let pids = await_started(&folder);
    assert!(pids.iter().all(|pid| is_running(*pid)), "the processes outlive the hook");
    let listed = bench.ok(&["ps", "demo"]).to_string();
    for pid in &pids {
        assert!(listed.contains(&format!("\"pid\":{pid}")), "{pid} is not in {listed}");
    }
    let removed = bench.ok(&["rm", "demo", "--force"]);
    for (pid, (name, _)) in pids.iter().zip(ESCAPES) {
        assert!(!is_running(*pid), "{name} outlives its environment");
    }
    assert!(removed["survivors"].as_array().is_some_and(Vec::is_empty), "{removed:#}");
    bench.check(&[&repo]);
}

#[test]
fn exec_processes_end_with_environment() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let folder = bench.path("pids");
    std::fs::create_dir(&folder).expect("a folder");
    let script = bench.path("escape");
    bench.write(&script, &escape_script(&folder));
    bench.new_env("demo", &repo, &[]);
    let ran = bench.command(&["exec", "demo", "--", "sh", script.to_str().expect("text")]);
    let ran = { ran }.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("runs");
    assert!(ran.success());
    let pids = await_started(&folder);
    // Without cgroups, a process that detaches in every way at once cannot be found.
    let groups =
        groundskeeper::world::process::cgroup::Cgroups::find("test-of-groups").is_available();
    bench.ok(&["rm", "demo", "--force"]);
    for (pid, (name, _)) in pids.iter().zip(ESCAPES) {
        assert!(!is_running(*pid) || (!groups && name == "everything"), "{name} is left");
    }
}

/// The exit code is passed, too.
#[test]
fn exec_holds_lease_and_passes_streams() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let path = bench.new_env("demo", &repo, &[]);
    let mut command = bench.command(&[
        "exec",
        "demo",
        "--",
        "sh",
        "-c",
        "pwd; echo $GROUNDSKEEPER_ENV; cat; exit 7",
    ]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started");
    wait_for("the lease", || {
        bench.ok(&["show", "demo"])["leases"].as_array().is_some_and(|l| !l.is_empty())
    });
    let (code, error) = bench.refused(&["rm", "demo"]);
    assert_eq!((code, error["code"].as_str()), (4, Some("environment_busy")), "{error:#}");
    assert!(error["evidence"].to_string().contains("exec sh"), "{error:#}");
    drop(child.stdin.take().map(|mut stdin| std::io::Write::write_all(&mut stdin, b"typed\n")));
    let output = child.wait_with_output().expect("ended");
    assert_eq!(output.status.code(), Some(7));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(said, format!("{}\ndemo\ntyped\n", path.display()));
    let leases = bench.ok(&["show", "demo"])["leases"].clone();
    assert!(leases.as_array().is_some_and(Vec::is_empty), "the lease is released: {leases}");
    let (code, error) = bench.refused(&["exec", "demo", "--", "no-such-program"]);
    assert_eq!((code, error["code"].as_str()), (3, Some("path_not_found")));
    bench.ok(&["rm", "demo"]);
    assert_eq!(bench.refused(&["exec", "demo", "--", "true"]).0, 3);
}

/// A process elsewhere with an open file is reported and spared; one that works inside is ended.
#[test]
fn outside_bystander_is_spared() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let path = bench.new_env("demo", &repo, &[]);
    // A process elsewhere that reads a file of the environment.
    let mut reader = std::process::Command::new("sleep");
    let file = std::fs::File::open(path.join("README")).expect("a file");
    let mut reader = reader.arg("1006").stdin(file).current_dir("/").spawn().expect("started");
    // A process with its working directory in the environment that the program did not start.
    let mut stranger = std::process::Command::new("sleep");
    let mut stranger = stranger.arg("1007").current_dir(&path).spawn().expect("started");
    let listed = bench.ok(&["ps", "demo"]);
    let fate = |pid: u32| {
        let found = listed.as_array().expect("a list").iter().find(|p| p["pid"] == pid).cloned();
        found.unwrap_or_else(|| panic!("{pid} is not in {listed}"))["ours"].clone()
    };
    assert_eq!((fate(reader.id()), fate(stranger.id())), (false.into(), true.into()));
    let removed = bench.ok(&["rm", "demo"]);
    let spared = removed["spared"].to_string();
    assert!(spared.contains(&format!("\"pid\":{}", reader.id())), "{removed:#}");
    assert!(is_running(reader.id()), "the reader is spared");
    assert!(!is_running(stranger.id()), "a process inside was ended");
    drop(reader.kill());
    drop((reader.wait(), stranger.wait()));
}

#[test]
fn process_in_deleted_directory_ends() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let path = bench.new_env("demo", &repo, &[]);
    let inside = path.join("target/deep");
    std::fs::create_dir_all(&inside).expect("a folder");
    let mut server = std::process::Command::new("sleep");
    let mut server = server.arg("1008").current_dir(&inside).spawn().expect("started");
    std::fs::remove_dir_all(path.join("target")).expect("removed");
    bench.ok(&["rm", "demo"]);
    assert!(!is_running(server.id()));
    drop(server.wait());
}

/// The requester runs inside the environment that it removes.
#[test]
fn stubborn_process_is_killed_requester_spared() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let path = bench.new_env("demo", &repo, &[]);
    let program = bench.path("ask");
    // An agent that removes the environment it runs in.
    bench.write(
        &program,
        &format!(
            "#!/bin/sh\ncd '{}'\nsh -c 'trap \"\" TERM; sleep 1009; sleep 1009' &\necho $! > {}\n\
             sleep 0.1\n'{}' --data-dir '{}' rm demo\necho survived\n",
            path.display(),
            bench.path("stubborn").display(),
            crate::support::PROGRAM,
            bench.data().display()
        ),
    );
    let mut agent = std::process::Command::new("sh");
    let output = agent.arg(&program).output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "survived\n", "{said}");
    assert!(said.contains("left alone"), "{said}");
    let stubborn = pid_in(&bench.path("stubborn")).expect("a pid");
    assert!(!is_running(stubborn), "it was killed");
    assert!(!path.exists());
    bench.check(&[&repo]);
}
