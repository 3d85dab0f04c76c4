//! The log as a file: a damaged or newer one is refused and not changed; a reader follows a writer.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use groundskeeper::core::event::{DaemonStarted, EnvironmentReady, Record};
use groundskeeper::core::{EnvironmentId, Event, Seq, State, Time};
use groundskeeper::journal::envelope::{self, Envelope};
use groundskeeper::journal::inspect::Depth;
use groundskeeper::journal::{Error, Journal, Options, inspect};
use sha2::Digest as _;

use crate::support::{Daemon, Harness};

fn fill(path: &Path, records: u64, options: Options) -> State {
    let (mut journal, found) = Journal::open(path, options).expect("opened");
    let mut state = found.state;
    for _ in 0..records {
        let seq = state.seq().next();
        let event: Event = if seq == Seq(1) {
            DaemonStarted { pid: 1, version: "x".repeat(200) }.into()
        } else {
            let name = format!("e{}", seq.0 % 7);
            EnvironmentReady { environment: EnvironmentId::parse(&name).expect("an id") }.into()
        };
        let record = Record { seq, at: Time(seq.0), boot: 1, event };
        state.apply(&record);
        journal.append(&[record], &state).expect("appended");
    }
    state
}

fn sum(path: &Path) -> Vec<u8> {
    sha2::Sha256::digest(std::fs::read(path).expect("read")).to_vec()
}

#[test]
fn snapshots_shorten_fold_three_remain() {
    let harness = Harness::new();
    let path = harness.path("log.redb");
    let options = Options { snapshot_every: 20 };
    let state = fill(&path, 110, options);
    let short = inspect(&path, Depth::FromSnapshot, &mut |_, _| {}).expect("intact");
    assert_eq!((short.state.clone(), short.folded), (state.clone(), 10));
    let whole = inspect(&path, Depth::Everything, &mut |_, _| {}).expect("intact");
    assert_eq!((whole.state, whole.folded), (state, 110));
}

#[test]
fn reader_follows_writer() {
    let harness = Harness::new();
    let path = harness.path("log.redb");
    let (mut journal, found) = Journal::open(&path, Options::default()).expect("opened");
    let reader = journal.reader();
    let follower = std::thread::spawn(move || {
        reader
            .follow(Seq(0), Duration::from_secs(20))
            .take(50)
            .map(|r| r.expect("read").seq.0)
            .collect::<Vec<_>>()
    });
    let mut state = found.state;
    for group in 0..10 {
        let records: Vec<Record> = (1..=5)
            .map(|n| {
                let event = DaemonStarted { pid: n, version: String::new() }.into();
                Record { seq: Seq(u64::from(group * 5 + n)), at: Time(1), boot: 1, event }
            })
            .collect();
        for record in &records {
            state.apply(record);
        }
        journal.append(&records, &state).expect("appended");
    }
    assert_eq!(follower.join().expect("followed"), (1..=50).collect::<Vec<u64>>());
    assert!(!journal.reader().wait_past(Seq(50), Duration::from_millis(1)));
}

/// Flips bits all over a log. In every case no wrong record is returned, nothing panics, and the
/// file keeps its bytes.
#[test]
fn damaged_log_is_detected_unchanged() {
    let harness = Harness::new();
    let path = harness.path("log.redb");
    let state = fill(&path, 60, Options::default());
    let original = std::fs::read(&path).expect("read");
    let copy = harness.path("copy.redb");
    let mut records = Vec::new();
    inspect(&path, Depth::Everything, &mut |r, _| records.push(r.clone())).expect("intact");
    std::panic::set_hook(Box::new(|_| {}));
    let (mut noticed, mut harmless) = (0, 0);
    for n in 0..1_500_usize {
        let mut bytes = original.clone();
        let bit = n.wrapping_mul(2_654_435_761) % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&copy, &bytes).expect("written");
        let mut seen = Vec::new();
        match inspect(&copy, Depth::Everything, &mut |r, _| seen.push(r.clone())) {
            Ok(found) => {
                harmless += 1;
                assert!(
                    found.state == state && seen == records,
                    "bit {bit}: a wrong result without a report"
                );
            }
            Err(Error::Damaged { .. } | Error::Newer { .. }) => {
                noticed += 1;
                assert!(records.starts_with(&seen), "bit {bit}: a wrong record was returned");
                if n % 50 == 0 {
                    Journal::open(&copy, Options::default()).map(|_| ()).expect_err("refused");
                }
            }
            Err(other) => panic!("bit {bit}: {other}"),
        }
        assert!(std::fs::read(&copy).expect("read") == bytes, "bit {bit}: the file was changed");
    }
    drop(std::panic::take_hook());
    eprintln!("{noticed} noticed, {harmless} in bytes that mean nothing");
    assert!(noticed > 0 && harmless > 0);
}

#[test]
fn invalid_log_files_are_refused_unchanged() {
    let harness = Harness::new();
    let path = harness.path("log.redb");
    fill(&path, 60, Options::default());
    let original = std::fs::read(&path).expect("read");
    let mut foreign = harness.path("x");
    for (name, bytes) in [
        ("empty", Vec::new()),
        ("cut", original[..original.len() / 3].to_vec()),
        ("zeros", vec![0; 100_000]),
        ("text", b"not a database\n".repeat(1_000)),
    ] {
        foreign = harness.path(name);
        std::fs::write(&foreign, &bytes).expect("written");
        std::panic::set_hook(Box::new(|_| {}));
        let opened = Journal::open(&foreign, Options::default()).map(|_| ());
        drop(std::panic::take_hook());
        let error = opened.expect_err(name);
        assert!(matches!(error, Error::Damaged { .. }), "{name}: {error}");
        assert!(std::fs::read(&foreign).expect("read") == bytes, "{name} was changed");
    }
    drop(foreign);
}

/// Rewrites one value in a table of a log, as a newer program would write it.
fn tamper(path: &Path, table: redb::TableDefinition<'_, &str, &[u8]>, key: &str, value: &[u8]) {
    let db = redb::Database::open(path).expect("opened");
    let txn = db.begin_write().expect("begun");
    txn.open_table(table).expect("a table").insert(key, value).expect("inserted");
    txn.commit().expect("committed");
}

/// The message names the remedy, and the file keeps its bytes.
#[test]
fn newer_log_format_is_refused() {
    let harness = Harness::new();
    harness.ok(&["ls"]);
    harness.ok(&["stop"]);
    let path = harness.data().join("log.redb");
    let table = redb::TableDefinition::new("meta");
    tamper(&path, table, "format", &99_u32.to_le_bytes());
    let before = sum(&path);
    let (code, error) = harness.refused(&["daemon"]);
    assert_eq!((code, error["code"].as_str()), (2, Some("journal_failed")));
    let printed = error.to_string();
    assert!(
        printed.contains("format is 99") && printed.contains("newer groundskeeper"),
        "{printed}"
    );
    assert_eq!(sum(&path), before);
}

#[test]
fn unknown_required_record_prevents_start() {
    let harness = Harness::new();
    harness.ok(&["ls"]);
    harness.ok(&["stop"]);
    let path = harness.data().join("log.redb");
    for (flags, starts) in [(0, true), (envelope::FLAG_MUST_UNDERSTAND, false)] {
        let head = inspect(&path, Depth::Everything, &mut |_, _| {}).expect("intact").head;
        let (bytes, crc) = envelope::seal(&Envelope {
            crc: 0,
            version: envelope::VERSION,
            codec: 1,
            flags,
            seq: head.seq + 1,
            at: u64::MAX / 2,
            boot: 1,
            kind: 9_999,
            kind_version: 3,
            previous: head.crc,
            payload: b"from the future",
        });
        let db = redb::Database::open(&path).expect("opened");
        let txn = db.begin_write().expect("begun");
        {
            let records = redb::TableDefinition::<u64, &[u8]>::new("records");
            let mut records = txn.open_table(records).expect("a table");
            records.insert(head.seq + 1, bytes.as_slice()).expect("inserted");
            let mut word = (head.seq + 1).to_le_bytes().to_vec();
            word.extend(crc.to_le_bytes());
            let meta = redb::TableDefinition::<&str, &[u8]>::new("meta");
            let mut meta = txn.open_table(meta).expect("a table");
            meta.insert("head", word.as_slice()).expect("inserted");
        }
        txn.commit().expect("committed");
        drop(db);
        if starts {
            harness.ok(&["ls"]);
            harness.ok(&["stop"]);
            continue;
        }
        let before = sum(&path);
        let (code, error) = harness.refused(&["daemon"]);
        assert_eq!((code, error["code"].as_str()), (2, Some("journal_failed")));
        let printed = error.to_string();
        assert!(printed.contains("kind 9999 version 3") && printed.contains("newer"), "{printed}");
        assert_eq!(sum(&path), before);
    }
}

#[test]
fn unwritable_log_ends_daemon_without_loss() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let Some(mount) = Tmpfs::new(&harness.data(), "24m") else { return };
    let mut daemon = Daemon::start(&harness);
    harness.new_env("demo", &repo, &[]);
    let filler = mount.0.join("filler");
    let mut file = std::fs::File::create(&filler).expect("a file");
    while std::io::Write::write_all(&mut file, &[1; 4_096]).is_ok() {}
    let mut acknowledged = 0;
    // Each lease is a record, so the log needs a new page at some point and cannot get one.
    while harness.gk(&["--no-autostart", "lease", "demo", "--for", "1h"]).0 == 0 {
        acknowledged += 1;
        // The reserve that the daemon gives back is used up as well.
        while std::io::Write::write_all(&mut file, &[1; 4_096]).is_ok() {}
        let shown = harness.ok(&["show", "demo"]);
        let newest = shown["leases"][0]["id"].as_str().expect("a lease").to_owned();
        if acknowledged % 50 == 0 {
            harness.gk(&["--no-autostart", "release", &newest]);
        }
        assert!(acknowledged < 5_000, "the disk is full and the log still grows");
        if acknowledged >= 60 {
            harness.gk(&["--no-autostart", "release", &newest]);
        }
    }
    crate::support::wait_for("the daemon to end", || daemon.is_dead());
    let printed = std::fs::read_to_string(harness.path("daemon.err")).expect("read");
    assert!(printed.contains("log storage failure") && printed.contains("hint:"), "{printed}");
    drop(file);
    std::fs::remove_file(&filler).expect("removed");
    // The kernel may free the blocks of the removed file with a delay.
    let free = || rustix::fs::statvfs(&mount.0).map_or(0, |s| s.f_bavail * s.f_frsize);
    crate::support::wait_for("the space to be free", || free() > 8 << 20);
    let _daemon = Daemon::start(&harness);
    assert_eq!(harness.phase("demo"), "ready");
    let leases = harness.ok(&["show", "demo"])["leases"].as_array().map_or(0, Vec::len);
    assert!(leases >= acknowledged.min(10), "{leases} of {acknowledged}");
    harness.ok(&["rm", "demo", "--force"]);
    harness.check(&[&repo]);
    harness.ok(&["stop"]);
}

/// The ballast file is given up, so removals can still be recorded.
#[test]
fn full_disk_leaves_room_for_cleanup() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let Some(mount) = Tmpfs::new(&harness.data(), "96m") else { return };
    let mut daemon = Daemon::start(&harness);
    harness.new_env("demo", &repo, &[]);
    let fill = |name: &str| {
        let mut file = std::fs::File::create(mount.0.join(name)).expect("a file");
        while std::io::Write::write_all(&mut file, &[1; 4_096]).is_ok() {}
    };
    fill("filler");
    for _ in 0..20 {
        harness.ok(&["--no-autostart", "lease", "demo", "--for", "1h"]);
    }
    assert!(!mount.0.join("ballast").exists(), "the ballast is in use");
    let (_, error) =
        harness.refused(&["--no-autostart", "new", "x", "--repo", repo.to_str().expect("text")]);
    assert_eq!(error["code"], "disk_full");
    daemon.kill();
    let mut daemon = Daemon::start(&harness);
    harness.ok(&["--no-autostart", "rm", "demo", "--force"]);
    assert!(!daemon.is_dead());
    std::fs::remove_file(mount.0.join("filler")).expect("removed");
    harness.check(&[&repo]);
    harness.ok(&["stop"]);
    harness.ok(&["ls"]);
    assert!(mount.0.join("ballast").exists(), "the ballast was created again");
    harness.ok(&["stop"]);
}

#[test]
fn killed_daemon_log_opens_unchanged() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let mut daemon =
        Daemon::start_with(&harness, &[("GROUNDSKEEPER_KILL_AT", "engine.committed:5")]);
    harness.gk(&["--no-autostart", "new", "demo", "--repo", repo.to_str().expect("text")]);
    daemon.kill();
    let path: PathBuf = harness.data().join("log.redb");
    let before = sum(&path);
    let found = inspect(&path, Depth::Everything, &mut |_, _| {}).expect("intact");
    assert!(found.head.seq >= 3);
    assert_eq!(sum(&path), before);
    Daemon::start(&harness);
}

/// The daemon keeps running, and removals still work.
#[test]
fn full_disk_refuses_new_environments() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let Some(mount) = Tmpfs::new(&harness.data(), "24m") else { return };
    harness.new_env("before", &repo, &[]);
    let filler = mount.0.join("filler");
    let mut size = 20_usize << 20;
    while std::fs::write(&filler, vec![1; size]).is_err() {
        size -= 1 << 20;
    }
    crate::support::wait_for("the daemon to notice", || {
        let (_, answer) = harness.gk(&["new", "more", "--repo", repo.to_str().expect("text")]);
        answer["error"]["code"] == "disk_full"
    });
    assert_eq!(harness.phase("before"), "ready");
    harness.ok(&["rm", "before"]);
    std::fs::remove_file(filler).expect("removed");
    crate::support::wait_for("space for a new environment", || {
        harness.gk(&["new", "more", "--repo", repo.to_str().expect("text")]).0 == 0
    });
    harness.check(&[&repo]);
    harness.ok(&["stop"]);
}

/// A small tmpfs that is unmounted when it is dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts the file system. Returns none if mounting is not allowed; the test is then skipped.
    fn new(place: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir(place).expect("a folder");
        let mut command = std::process::Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(place);
        if command.output().is_ok_and(|o| o.status.success()) {
            return Some(Self(place.to_owned()));
        }
        eprintln!("mounting is not allowed here; a full disk is not tested");
        None
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        drop(std::process::Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

type Loss = fn(&Path);

/// What takes the log away from a running daemon, by name.
const LOSSES: [(&str, Loss); 5] = [
    ("unlinked", |data| std::fs::remove_file(data.join("log.redb")).expect("removed")),
    ("replaced", |data| {
        std::fs::copy(data.join("log.redb"), data.join("other")).expect("copied");
        std::fs::rename(data.join("other"), data.join("log.redb")).expect("renamed");
    }),
    ("truncated", |data| {
        let log = std::fs::File::options().write(true).open(data.join("log.redb"));
        log.and_then(|log| log.set_len(8_192)).expect("cut");
    }),
    ("directory moved", |data| {
        std::fs::rename(data, data.with_extension("moved")).expect("moved");
    }),
    ("directory removed", remove_directory),
];

/// Removes the data directory of a running daemon, which may write in it meanwhile.
fn remove_directory(data: &Path) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(e) = std::fs::remove_dir_all(data) {
        match e.kind() {
            std::io::ErrorKind::NotFound => return,
            std::io::ErrorKind::DirectoryNotEmpty if Instant::now() < deadline => {}
            _ => panic!("{}: {e}", data.display()),
        }
    }
}

/// The daemon acknowledges nothing that no log holds, says why, and ends for its supervisor.
#[test]
fn lost_log_ends_daemon_before_it_acknowledges() {
    for (name, lose) in LOSSES {
        let harness = Harness::new();
        let repo = harness.repo("project", 3);
        let errors = harness.path("daemon.err");
        let mut daemon = Daemon::start(&harness);
        harness.new_env("demo", &repo, &[]);
        harness.drain();
        // The socket goes with the directory, so the connection is made before.
        let socket = harness.data().join("daemon.sock");
        let mut client = std::os::unix::net::UnixStream::connect(&socket).expect("connected");
        lose(&harness.data());
        let body = r#"{"milliseconds":60000,"purpose":"test"}"#;
        let head = "POST /v1/environments/demo/leases HTTP/1.1\r\nhost: x\r\n";
        let head = format!("{head}content-type: application/json\r\n");
        let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
        std::io::Write::write_all(&mut client, request.as_bytes()).expect("sent");
        let mut answer = Vec::new();
        let limit = Some(Duration::from_secs(20));
        client.set_read_timeout(limit).expect("a limit");
        // A reset connection is as good as none: the lease is not granted.
        drop(std::io::Read::read_to_end(&mut client, &mut answer));
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(!answer.starts_with("HTTP/1.1 2"), "{name}: {answer}");
        crate::support::wait_for("the end of the daemon", || daemon.is_dead());
        let status = daemon.child.wait().expect("its status");
        let errors = std::fs::read_to_string(&errors).expect("read");
        assert_eq!(status.code(), Some(2), "{name}: {errors}");
        assert!(errors.contains("is lost to the running daemon"), "{name}: {errors}");
    }
}

/// A log that is missing or empty beside worktrees and trash is not replaced by a new one.
#[test]
fn data_directory_without_log_is_refused_until_started_over() {
    for is_empty in [false, true] {
        let harness = Harness::new();
        let repo = harness.repo("project", 3);
        let path = harness.new_env("demo", &repo, &[]);
        harness.write(&path.join("note"), "work\n");
        let removed = harness.new_env("gone", &repo, &[]);
        harness.write(&removed.join("other"), "more\n");
        harness.ok(&["rm", "gone", "--force"]);
        harness.ok(&["stop"]);
        let log = harness.data().join("log.redb");
        if is_empty {
            std::fs::write(&log, "").expect("emptied");
        } else {
            std::fs::remove_file(&log).expect("removed");
        }
        let (code, error) = harness.refused(&["daemon"]);
        assert_eq!((code, error["code"].as_str()), (2, Some("journal_failed")), "{error:#}");
        let text = error.to_string();
        for part in ["worktrees/demo", "trash/gone", "--start-over", "replay salvage"] {
            assert!(text.contains(part), "{part}: {error:#}");
        }
        assert_eq!(log.exists(), is_empty, "nothing was made");
        // The daemon that a verb starts is refused as well.
        let (_, error) = harness.refused(&["ls"]);
        assert!(error.to_string().contains("--start-over"), "{error:#}");
        let daemon = Daemon::of(&harness, harness.command(&["daemon", "--start-over"]));
        let shown = harness.ok(&["show", "demo"]);
        assert_eq!(
            (shown["adopted"].as_bool(), shown["phase"].as_str()),
            (Some(true), Some("ready"))
        );
        assert_eq!(std::fs::read_to_string(path.join("note")).expect("kept"), "work\n");
        let trash: Vec<_> =
            std::fs::read_dir(harness.data().join("trash")).expect("kept").collect();
        assert_eq!(trash.len(), 1, "{trash:?}");
        assert_eq!(harness.data().join("log.redb.broken-1").exists(), is_empty);
        drop(daemon);
        // As if it had been killed before it adopted the worktree: the next one goes on.
        let daemon = Daemon::start(&harness);
        harness.ok(&["rm", "demo"]);
        let own = harness.new_env("own", &repo, &[]);
        drop(daemon);
        let _daemon = Daemon::of(&harness, harness.command(&["daemon", "--start-over"]));
        let adopted = |id: &str| harness.ok(&["show", id])["adopted"].as_bool();
        assert_eq!((adopted("demo"), adopted("own")), (Some(true), Some(false)));
        assert!(own.exists() && path.join("note").exists());
    }
}
