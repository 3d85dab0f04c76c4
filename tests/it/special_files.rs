//! Special files in the place of the program's own: a start names them at once. It neither waits
//! for a FIFO nor follows a link.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Daemon, Harness};

/// Longest time of a start that is refused.
const ANSWERED: Duration = Duration::from_secs(10);

const FILES: [&str; 7] =
    ["log.redb", "daemon.lock", "daemon.json", "identity", "high-water", "ballast", "token"];
const FOLDERS: [&str; 8] =
    ["locks", "transcripts", "worktrees", "trash", "scratch", "rescue", "migrations", "spare"];

/// Makes a special file. Returns false where this user may not make it.
fn make(path: &Path, kind: &str) -> bool {
    let run = |program: &str, args: &[&str]| {
        Command::new(program).arg(path).args(args).status().is_ok_and(|status| status.success())
    };
    match kind {
        "a FIFO" => assert!(run("mkfifo", &[])),
        "a socket" => drop(UnixListener::bind(path).expect("bound")),
        "a directory" => std::fs::create_dir(path).expect("made"),
        "a plain file" => std::fs::write(path, "theirs").expect("written"),
        "a symbolic link" => {
            let target = path.with_extension("target");
            std::os::unix::fs::symlink(target, path).expect("linked");
        }
        // The numbers of `/dev/null`.
        _ => return run("mknod", &["c", "1", "3"]),
    }
    true
}

fn remove(path: &Path) {
    if path.is_dir() && !path.is_symlink() {
        std::fs::remove_dir(path).expect("removed");
    } else {
        std::fs::remove_file(path).expect("removed");
    }
}

/// Runs a command that must fail in time. Returns what it printed on stderr.
fn failed(mut command: Command, what: &str) -> String {
    let began = Instant::now();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("started");
    while child.try_wait().expect("asked").is_none() {
        if began.elapsed() > ANSWERED {
            drop(child.kill());
            panic!("{what}: no answer after {ANSWERED:?}");
        }
        crate::support::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().expect("ended");
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{what}: {printed}");
    printed
}

/// Returns a harness whose data directory was used by a daemon that ended.
fn used() -> Harness {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let daemon = Daemon::of(&harness, harness.command(&["daemon", "--listen", "127.0.0.1:0"]));
    harness.new_env("demo", &repo, &[]);
    assert!(daemon.terminate().success());
    harness
}

#[test]
fn special_file_in_data_directory_is_named_at_start() {
    let harness = used();
    let kinds = ["a FIFO", "a socket", "a directory", "a symbolic link", "a device"];
    let mut skipped = 0;
    for (names, kinds) in [(&FILES[..], &kinds[..]), (&FOLDERS[..], &kinds[..])] {
        for name in names {
            let (path, aside) = (harness.data().join(name), harness.path("aside"));
            let was_there = std::fs::rename(&path, &aside).is_ok();
            let of_folder = FOLDERS.contains(name);
            for kind in kinds.iter().chain(of_folder.then_some(&"a plain file")) {
                if of_folder && *kind == "a directory" {
                    continue;
                }
                if !make(&path, kind) {
                    skipped += 1;
                    continue;
                }
                let what = format!("{kind} in the place of {name}");
                let start = harness.command(&["daemon", "--listen", "127.0.0.1:0"]);
                let printed = failed(start, &what);
                let wanted = if of_folder { "a directory" } else { "a plain file" };
                let message = format!("{} is {kind}, not {wanted}", path.display());
                assert!(printed.contains(&message), "{what}: {printed}");
                assert!(printed.contains("`mv "), "{what}: {printed}");
                let left = path.symlink_metadata().expect("it is left alone").file_type();
                assert_eq!(left.is_symlink(), *kind == "a symbolic link", "{what}");
                assert!(!path.with_extension("target").exists(), "{what} was followed");
                remove(&path);
            }
            if was_there {
                std::fs::rename(&aside, &path).expect("put back");
            }
        }
    }
    if skipped > 0 {
        eprintln!("{skipped} cases SKIPPED: this user cannot make device files");
    }
    assert_eq!(harness.ok(&["show", "demo"])["phase"], "ready");
    harness.check_log();
}

/// Commands that start a daemon, or look for one, answer as well.
#[test]
fn commands_name_special_files() {
    let harness = used();
    for name in ["daemon.lock", "daemon.json", "daemon.log", "log.redb"] {
        let (path, aside) = (harness.data().join(name), harness.path("aside"));
        let was_there = std::fs::rename(&path, &aside).is_ok();
        assert!(make(&path, "a FIFO"));
        for args in [&["ls"][..], &["migrate", "status"]] {
            let printed = failed_or_empty(harness.command(args), name);
            let message = format!("{} is a FIFO, not a plain file", path.display());
            let is_named = printed.contains(&message);
            assert!(is_named || args[0] == "migrate", "{args:?} with {name}: {printed}");
        }
        let began = Instant::now();
        for args in [&["stop"][..], &["doctor"]] {
            drop(harness.gk(args));
        }
        assert!(began.elapsed() < ANSWERED, "{name}: {:?}", began.elapsed());
        remove(&path);
        if was_there {
            std::fs::rename(&aside, &path).expect("put back");
        }
    }
    assert_eq!(harness.ok(&["show", "demo"])["phase"], "ready");
}

/// Runs a command that must end in time, whatever its result.
fn failed_or_empty(mut command: Command, what: &str) -> String {
    let began = Instant::now();
    let output = command.output().expect("it runs");
    assert!(began.elapsed() < ANSWERED, "{what}: {:?}", began.elapsed());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A link is what programs make that keep the files of a home in a repository.
#[test]
fn configuration_may_be_link_but_no_special_file() {
    let harness = Harness::new();
    let config = harness.path("config.toml");
    let start = || {
        let mut command = harness.command(&["daemon"]);
        command.env("GROUNDSKEEPER_CONFIG", &config);
        command
    };
    for kind in ["a FIFO", "a socket", "a directory"] {
        assert!(make(&config, kind));
        let printed = failed(start(), kind);
        let message = format!("{} is {kind}, not a plain file", config.display());
        assert!(printed.contains(&message), "{printed}");
        remove(&config);
    }
    let target = harness.path("target");
    harness.write(&target, "trash_days = 0\n");
    std::os::unix::fs::symlink(&target, &config).expect("linked");
    let env = [("GROUNDSKEEPER_CONFIG", config.to_str().expect("text"))];
    let _daemon = Daemon::start_with(&harness, &env);
    assert_eq!(harness.ok(&["ls"]), serde_json::json!([]));
}

#[test]
fn key_of_control_server_may_be_no_special_file() {
    let harness = Harness::new();
    let (key, config) = (harness.path("key"), harness.path("config.toml"));
    let text =
        format!("server = \"http://127.0.0.1:1\"\nserver_key_file = \"{}\"\n", key.display());
    harness.write(&config, &text);
    assert!(make(&key, "a FIFO"));
    let mut command = harness.command(&["daemon"]);
    command.env("GROUNDSKEEPER_CONFIG", &config);
    let printed = failed(command, "a FIFO");
    assert!(printed.contains(&format!("{} is a FIFO", key.display())), "{printed}");
}
