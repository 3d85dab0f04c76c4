//! The watcher of a real engine over a failing backend: it gives up once and stays silent.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::core::event::{Actor, Event, LeaseGranted, Plan, Repository, Retention, Worktree};
use crate::core::watch_machine::ATTEMPTS_MAX;
use crate::core::{Adopt, Command, EnvironmentId, LeaseId, Seq, Time};
use crate::engine::watcher::Options;
use crate::engine::{Engine, Handle, WatchService};
use crate::journal::{self, Journal};
use crate::world::World;
use crate::world::fs::data_dir::Layout;
use crate::world::fs::paths;
use crate::world::git::marker;
use crate::world::watch::backend::{Backend, Failure, TreeId};

/// Half an hour of failures passes in less than a second.
const SPEED: u32 = 5_000;

#[derive(Debug, Clone, Default)]
struct Failing {
    attempts: Arc<AtomicU32>,
    works: Arc<AtomicBool>,
}

impl Backend for Failing {
    fn name(&self) -> &'static str {
        "failing"
    }

    fn open(&self, _: TreeId) -> Result<(), Failure> {
        self.attempts.fetch_add(1, Ordering::AcqRel);
        if self.works.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(Failure::Failed("there".into(), std::io::Error::other("broken")))
    }

    fn add(&self, _: TreeId, _: &Path) -> Result<(), Failure> {
        Ok(())
    }

    fn forget(&self, _: TreeId, _: &Path) {}

    fn close(&self, _: TreeId) {}

    fn counts(&self) -> (usize, usize) {
        (0, 1)
    }
}

struct Scene {
    _root: tempfile::TempDir,
    layout: Layout,
    log_id: [u8; 16],
    handle: Handle,
    id: EnvironmentId,
}

/// Returns a running engine with one adopted clone.
fn scene() -> Scene {
    let root = tempfile::tempdir().expect("a directory");
    let at = root.path().canonicalize().expect("real");
    let clone = at.join("clone");
    let git = std::process::Command::new("git").args(["init", "-q"]).arg(&clone).status();
    assert!(git.expect("git runs").success());
    let layout = Layout::new(at.join("data"));
    World::prepare(&layout).expect("prepared");
    let (journal, found) =
        Journal::open(&layout.log(), journal::Options::default()).expect("a new log");
    let log_id = journal.log_id();
    let world = Arc::new(World::new(layout.clone(), log_id));
    let (engine, handle) = Engine::new(journal, found.state, world);
    let (pid, version, retention) = (std::process::id(), String::new(), Retention::default());
    let ground = crate::core::Ground::default();
    let start = Command::Start { pid, version, retention, ground };
    std::thread::spawn(move || engine.run(start));
    let id = EnvironmentId::parse("demo").expect("a name");
    handle.submit_blocking(adopt(&id, &clone)).expect("adopted");
    Scene { _root: root, layout, log_id, handle, id }
}

fn adopt(id: &EnvironmentId, at: &Path) -> Command {
    let git = paths::to_host(&at.join(".git"));
    let repository = Repository {
        common_dir: git.clone(),
        source: Some(paths::to_host(at)),
        name: "project".to_owned(),
        object_format: "sha1".to_owned(),
    };
    let found = marker::identity(at).expect("looked").expect("there");
    let worktree = Worktree {
        admin_dir: git,
        device: found.device,
        inode: found.inode,
        ..Worktree::default()
    };
    let plan = Plan { repository, path: paths::to_host(at), ..Plan::default() };
    let (environment, head, actor) = (id.clone(), "h".to_owned(), Actor::default());
    let nonce = crate::core::Nonce::parse(&"0".repeat(32)).expect("a nonce");
    Command::Adopt(Adopt { environment, plan, head, worktree, actor, nonce })
}

impl Scene {
    fn watch(&self, backend: &Failing) -> Arc<WatchService> {
        let options = Options { always: true, speed: SPEED };
        let made = Box::new(backend.clone());
        // A new world, as after a restart of the daemon.
        let world = Arc::new(World::new(self.layout.clone(), self.log_id));
        let watching = WatchService::start(&world, self.handle.clone(), options, |_| made);
        watching.expect("started")
    }

    /// Returns how often the log records that the watch was given up, and that it was resumed.
    fn recorded(&self) -> (usize, usize) {
        let all = self.handle.reader().read(Seq(1), 1_000).expect("read");
        let is = |wanted: fn(&Event) -> bool| all.iter().filter(|r| wanted(&r.event)).count();
        let given_up = is(|e| matches!(e, Event::WatcherGaveUp(_)));
        (given_up, is(|e| matches!(e, Event::WatcherResumed(_))))
    }

    fn is_unwatched(&self) -> bool {
        self.handle.view(|s| s.environment(&self.id).is_some_and(|e| e.unwatched.is_some()))
    }
}

#[expect(clippy::disallowed_methods, reason = "what is awaited has no event of its own")]
fn wait_for(what: &str, is: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !is() {
        assert!(Instant::now() < until, "waited for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn in_an_hour() -> Time {
    let now = crate::clock::since_epoch();
    Time(u64::try_from(now.as_nanos()).unwrap_or_default()).after(Duration::from_secs(3_600))
}

/// Neither notifications nor a restart resume it.
#[test]
fn failing_watch_gives_up_once() {
    let scene = scene();
    let backend = Failing::default();
    let watching = scene.watch(&backend);
    wait_for("the end", || scene.is_unwatched());
    assert_eq!(backend.attempts.load(Ordering::Acquire), ATTEMPTS_MAX);
    assert_eq!((scene.recorded(), watching.metrics().give_ups), ((1, 0), 1));

    // Neither notifications nor a restart resume it; each lease is answered before the next.
    for n in 0..50 {
        watching.state_changed();
        let take = Command::Lease(LeaseGranted {
            environment: scene.id.clone(),
            lease: LeaseId::parse(&format!("lease{n}")).expect("a name"),
            until: in_an_hour(),
            purpose: "a test".to_owned(),
            actor: Actor::default(),
            request: None,
        });
        scene.handle.submit_blocking(take).expect("leased");
    }
    watching.stop();
    let after = Failing::default();
    let watching = scene.watch(&after);
    wait_for("an inspection", || watching.metrics().stages.get("gave_up") == Some(&1));
    let attempts = [&backend, &after].map(|b| b.attempts.load(Ordering::Acquire));
    assert_eq!((attempts, scene.recorded()), ([ATTEMPTS_MAX, 0], (1, 0)));

    // A new subscriber resumes the watch, and the log records that.
    after.works.store(true, Ordering::Release);
    let _interest = watching.subscribe(None);
    wait_for("the watch", || watching.metrics().stages.get("on") == Some(&1));
    assert_eq!((scene.recorded(), scene.is_unwatched()), ((1, 1), false));
    watching.stop();
    scene.handle.shutdown("over");
}
