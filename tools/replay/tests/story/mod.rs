//! Logs as a daemon would write them, and the program that reads them. Nothing here judges.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::Command;

use groundskeeper_core::event::{
    Actor, Base, BaseResolved, BranchSettled, DaemonStarted, DestroyRefused, DestroyRequested,
    DirectoryTrashed, EnvironmentReady, Plan, ProcessesEnded, ProvisionFailed, ProvisionRequested,
    Record, RegistrationRemoved, Repository, Rescue, Retention, RetentionChanged, RolledBack, Size,
    TeardownInspected, TeardownOptions, Tombstoned, TrashMeasured, WorkRescued, Worktree,
    WorktreeAdded,
};
use groundskeeper_core::{Code, EnvironmentId, Event, Fault, HostPath, Seq, State, Time};
use groundskeeper_journal::{Journal, Options};

pub(crate) const SECOND: u64 = 1_000_000_000;
/// 2026-11-22T00:00:00Z.
pub(crate) const START: u64 = 1_795_305_600 * SECOND;

/// A folder with a log in it.
pub(crate) struct Scene {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) log: PathBuf,
}

impl Scene {
    pub(crate) fn new(records: &[Record]) -> Self {
        Self::with(records, Options::default())
    }

    pub(crate) fn with(records: &[Record], options: Options) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let log = dir.path().join("log.redb");
        write(&log, records, options);
        Self { dir, log }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn file(&self) -> &str {
        self.log.to_str().expect("text")
    }
}

pub(crate) fn write(path: &Path, records: &[Record], options: Options) {
    let (mut journal, _) = Journal::open(path, options).expect("a new log");
    let mut state = State::default();
    for record in records {
        state.apply(record);
        journal.append(std::slice::from_ref(record), &state).expect("appended");
    }
}

/// What the program said, and how it ended.
pub(crate) struct CliOutput {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl CliOutput {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {} {}", self.out, self.err))
    }

    pub(crate) fn all(&self) -> String {
        format!("{}{}", self.out, self.err)
    }
}

pub(crate) fn replay(args: &[&str]) -> CliOutput {
    let output = Command::new(env!("CARGO_BIN_EXE_replay"))
        .args(args)
        .env_remove("PAGER")
        .output()
        .expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let printed = CliOutput {
        code: output.status.code().unwrap_or(-1),
        out: text(&output.stdout),
        err: text(&output.stderr),
    };
    assert!(
        !printed.err.contains("panicked") && !printed.err.contains("a defect"),
        "{args:?}: {}",
        printed.err
    );
    printed
}

pub(crate) fn ok(args: &[&str]) -> CliOutput {
    let printed = replay(args);
    assert_eq!(printed.code, 0, "{args:?}: {}", printed.all());
    printed
}

pub(crate) fn env(name: &str) -> EnvironmentId {
    EnvironmentId::parse(name).expect("an id")
}

pub(crate) fn who() -> Actor {
    Actor { origin: groundskeeper_core::event::Origin::Api, uid: 1000, pid: 4242 }
}

/// Records a second apart; the starts of daemons are counted.
pub(crate) fn records(events: Vec<Event>) -> Vec<Record> {
    let mut boot = 0;
    (1..)
        .zip(events)
        .map(|(seq, event)| {
            boot += u32::from(matches!(event, Event::DaemonStarted(_)));
            Record { seq: Seq(seq), at: Time(START + seq * SECOND), boot, event }
        })
        .collect()
}

pub(crate) fn started() -> Event {
    DaemonStarted { pid: 7, version: "0.1.0".into() }.into()
}

pub(crate) fn provision(name: &str, incarnation: u32) -> Event {
    let plan = Plan {
        repository: Repository {
            common_dir: "/home/alice/project/.git".into(),
            source: Some("/home/alice/project".into()),
            name: "project".into(),
            object_format: "sha1".into(),
        },
        path: HostPath::from(format!("/data/worktrees/{name}/project").as_str()),
        branch: format!("gk/{name}"),
        ..Plan::default()
    };
    let (environment, actor) = (env(name), who());
    let (request, nonce, attributes) = (None, None, None);
    ProvisionRequested { environment, incarnation, plan, actor, request, nonce, attributes }.into()
}

pub(crate) fn made(name: &str, incarnation: u32) -> Vec<Event> {
    let environment = || env(name);
    let base = Base {
        commit: "9fceb02d0ae598e95dc970b74767f19372d61af8".into(),
        reference: Some("refs/heads/main".into()),
        ..Base::default()
    };
    vec![
        provision(name, incarnation),
        BaseResolved { environment: environment(), base }.into(),
        WorktreeAdded { environment: environment(), worktree: Worktree::default() }.into(),
        EnvironmentReady { environment: environment() }.into(),
    ]
}

pub(crate) fn destroy(name: &str, force: bool) -> Event {
    let options = TeardownOptions { reason: "request".into(), ..TeardownOptions::default() };
    let (environment, actor) = (env(name), who());
    DestroyRequested { environment, force, actor, request: None, options }.into()
}

/// A removal that is refused first and forced then.
pub(crate) fn removed(name: &str) -> Vec<Event> {
    let environment = || env(name);
    let fault = Fault::new(Code::UnsafeToRemove, "it holds work", "commit it")
        .with_evidence(["untracked: secret-notes.txt".to_owned()]);
    let rescue = Rescue {
        reference: Some(format!("refs/groundskeeper/rescue/{name}/1")),
        commit: Some("1234567890123456789012345678901234567890".into()),
        holds: vec!["the working tree".into()],
        lacks: Vec::new(),
        ..Rescue::default()
    };
    let trash = Some(HostPath::from(format!("/data/trash/{name}.1/project").as_str()));
    vec![
        destroy(name, false),
        DestroyRefused { environment: environment(), fault }.into(),
        destroy(name, true),
        TeardownInspected {
            environment: environment(),
            unsaved: vec!["untracked: secret-notes.txt".into()],
            fingerprint: Some("ab".repeat(32)),
            head: Some("9fceb02d0ae598e95dc970b74767f19372d61af8".into()),
            rescue: true,
            has_hook: false,
            quiet: false,
            noted: Vec::new(),
            unseen: false,
            branch: None,
        }
        .into(),
        ProcessesEnded {
            environment: environment(),
            ended: Vec::new(),
            spared: Vec::new(),
            survivors: Vec::new(),
        }
        .into(),
        WorkRescued { environment: environment(), rescue: Some(rescue) }.into(),
        DirectoryTrashed { environment: environment(), trash }.into(),
        RegistrationRemoved { environment: environment() }.into(),
        BranchSettled {
            environment: environment(),
            deleted: true,
            reason: "all its commits are reachable elsewhere".into(),
            rescue: Vec::new(),
        }
        .into(),
        Tombstoned { environment: environment(), leftovers: Vec::new() }.into(),
    ]
}

pub(crate) fn measured(name: &str) -> Event {
    let size = Size { entries: 3, apparent: 4_096, allocated: 8_192 };
    TrashMeasured { environment: env(name), incarnation: 1, size }.into()
}

/// Two lives made, one removed, one that failed: 24 records.
pub(crate) fn story() -> Vec<Record> {
    let retention = Retention {
        trash_seconds: 7 * 86_400,
        trash_bytes: 1 << 40,
        clean_seconds: 86_400,
        rescue_seconds: None,
    };
    let mut events = vec![started(), RetentionChanged { retention }.into()];
    events.extend(made("demo", 1));
    events.extend(made("other", 1));
    events.extend(removed("demo"));
    events.push(measured("demo"));
    let fault = Fault::new(Code::BaseNotFound, "no such commit in /home/alice/project", "fetch");
    events.extend::<[Event; 3]>([
        provision("fails", 1),
        ProvisionFailed {
            environment: env("fails"),
            step: "resolve_base".into(),
            fault,
            kept: false,
        }
        .into(),
        RolledBack {
            environment: env("fails"),
            leftovers: Vec::new(),
            trash: None,
            head: None,
            rescue: None,
        }
        .into(),
    ]);
    records(events)
}

/// A long life of small records.
pub(crate) fn long(lives: u32) -> Vec<Record> {
    let mut events = vec![started()];
    for n in 0..lives {
        let name = format!("e{n}");
        events.extend(made(&name, 1));
        events.extend(removed(&name));
        events.push(measured(&name));
    }
    records(events)
}

pub(crate) fn sum(path: &Path) -> Vec<u8> {
    use sha2::Digest as _;
    sha2::Sha256::digest(std::fs::read(path).expect("read")).to_vec()
}
