//! Tests of the tracker with a backend that fails on demand: limits, overflow, and the gate.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use crate::core::event::{Actor, Plan, Record, Repository, Worktree};
use crate::core::{Adopt, Command, Environment, EnvironmentId, State, Time};
use crate::world::fs::paths;
use crate::world::git::marker;
use crate::world::watch::backend::{Signal, *};
use crate::world::watch::limits::Budget;
use crate::world::watch::tracker::WatchTracker;

const WAIT_LIMIT: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Inner {
    sink: OnceLock<Sink>,
    added: Mutex<Vec<(TreeId, PathBuf)>>,
    most: AtomicUsize,
}

#[derive(Clone, Default)]
struct Injected(Arc<Inner>);

impl std::fmt::Debug for Injected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Injected")
    }
}

impl Injected {
    fn of(&self, tree: TreeId) -> usize {
        self.all().iter().filter(|(of, _)| *of == tree).count()
    }

    fn all(&self) -> Vec<(TreeId, PathBuf)> {
        self.0.added.lock().expect("not poisoned").clone()
    }

    fn emit(&self, tree: TreeId, happened: Happened) {
        self.0.sink.get().expect("a tracker")(tree, happened);
    }
}

impl Backend for Injected {
    fn name(&self) -> &'static str {
        "injected"
    }

    fn open(&self, _: TreeId) -> Result<(), Failure> {
        Ok(())
    }

    fn add(&self, tree: TreeId, dir: &Path) -> Result<(), Failure> {
        let mut added = self.0.added.lock().expect("not poisoned");
        if added.len() >= self.0.most.load(Ordering::Acquire) {
            return Err(Failure::Limit("no room".to_owned()));
        }
        added.push((tree, dir.to_owned()));
        Ok(())
    }

    fn forget(&self, tree: TreeId, dir: &Path) {
        let mut added = self.0.added.lock().expect("not poisoned");
        added.retain(|(of, path)| *of != tree || !path.starts_with(dir));
    }

    fn close(&self, tree: TreeId) {
        self.0.added.lock().expect("not poisoned").retain(|(of, _)| *of != tree);
    }

    fn counts(&self) -> (usize, usize) {
        (self.all().len(), 1)
    }
}

struct Scene {
    tracker: Arc<WatchTracker>,
    backend: Injected,
    open: Arc<AtomicBool>,
    signals: Receiver<Signal>,
    root: tempfile::TempDir,
    env: Environment,
}

/// Creates an adopted clone with ten directories, and a tracker that may watch it.
fn scene(most: usize) -> Scene {
    let root = tempfile::tempdir().expect("a directory");
    let at = root.path().canonicalize().expect("real");
    let git = std::process::Command::new("git").arg("-C").arg(&at).args(["init", "-q"]).status();
    assert!(git.expect("git runs").success());
    for n in 0..10 {
        std::fs::create_dir(at.join(format!("folder{n}"))).expect("made");
    }
    let backend = Injected::default();
    backend.0.most.store(most, Ordering::Release);
    let (made, open) = (backend.clone(), Arc::new(AtomicBool::new(true)));
    let gate = Arc::clone(&open);
    let (sender, signals) = sync_channel(1_024);
    let tracker = WatchTracker::start(
        |sink| {
            assert!(made.0.sink.set(sink).is_ok());
            Box::new(made.clone())
        },
        Budget { tree: 1_000, host: 1_000, system: 2_000 },
        Vec::new(),
        Box::new(move |_| gate.load(Ordering::Acquire)),
        Box::new(move |signal| drop(sender.try_send(signal))),
    );
    Scene { tracker: tracker.expect("started"), backend, open, signals, env: adopted(&at), root }
}

fn adopted(at: &Path) -> Environment {
    let id = EnvironmentId::parse("demo").expect("a name");
    let git = paths::to_host(&at.join(".git"));
    let repository = Repository {
        common_dir: git.clone(),
        source: Some(paths::to_host(at)),
        name: "project".to_owned(),
        object_format: "sha1".to_owned(),
    };
    let path = paths::to_host(at);
    let found = marker::identity(at).expect("looked").expect("there");
    let worktree = Worktree {
        admin_dir: git,
        device: found.device,
        inode: found.inode,
        ..Worktree::default()
    };
    let plan = Plan { repository, path, branch: "main".to_owned(), ..Plan::default() };
    let (head, actor, environment) = ("h".to_owned(), Actor::default(), id.clone());
    let mut state = State::default();
    let nonce = crate::core::Nonce::parse(&"0".repeat(32)).expect("a nonce");
    let adopt = Command::Adopt(Adopt { environment, plan, head, worktree, actor, nonce });
    for event in state.decide(Time(1), adopt).expect("adopted") {
        let record = Record { seq: state.seq().next(), at: Time(1), boot: 1, event };
        state.apply(&record);
    }
    state.environment(&id).cloned().expect("there")
}

impl Scene {
    /// Waits for a matching signal; panics after the timeout.
    fn await_signal(&self, what: &str, wanted: impl Fn(&Signal) -> bool) {
        loop {
            let signal = self.signals.recv_timeout(WAIT_LIMIT);
            let signal = signal.unwrap_or_else(|e| panic!("no event about {what}: {e}"));
            if wanted(&signal) {
                return;
            }
        }
    }

    /// Returns the tree of the worktree, which is opened before that of the refs.
    fn tree(&self) -> TreeId {
        self.backend.all().first().expect("watched").0
    }
}

#[test]
fn limit_while_arming_frees_watches() {
    let scene = scene(5);
    assert!(matches!(scene.tracker.arm(&scene.env), Err(Failure::Limit(_))));
    assert_eq!((scene.backend.all(), scene.tracker.counts().worktrees), (Vec::new(), 0));
}

#[test]
fn limit_while_growing_frees_watches() {
    let scene = scene(1_000);
    scene.tracker.arm(&scene.env).expect("watched");
    scene.backend.0.most.store(scene.backend.all().len(), Ordering::Release);
    let root: Arc<Path> = Arc::from(paths::from_host(&scene.env.plan.path));
    std::fs::create_dir(root.join("new")).expect("made");
    let happened = Happened::In { dir: root, name: "new".into(), what: What::Made, is_dir: true };
    scene.backend.emit(scene.tree(), happened);
    scene.await_signal(
        "a limit",
        |s| matches!(s, Signal::Broken(_, why) if matches!(**why, Failure::Limit(_))),
    );
    assert_eq!(scene.backend.all(), Vec::new());
    assert!(scene.root.path().exists());
}

/// Directories created while events were lost are found.
#[test]
fn overflow_rewatches_whole_tree() {
    let scene = scene(1_000);
    scene.tracker.arm(&scene.env).expect("watched");
    let (tree, before) = (scene.tree(), scene.backend.of(scene.tree()));
    let root = paths::from_host(&scene.env.plan.path);
    // Created while the events about it were lost.
    std::fs::create_dir_all(root.join("missed/below")).expect("made");
    scene.backend.emit(tree, Happened::Overflow);
    let anything = |kinds: &Kinds| kinds.names().contains(&"anything");
    scene.await_signal("an overflow", |s| matches!(s, Signal::Changed(_, k) if anything(k)));
    scene.await_signal("the walk", |s| matches!(s, Signal::Changed(..)));
    assert_eq!(scene.backend.of(tree), before + 2);
    assert_eq!(scene.tracker.counts().overflows, 1);
}

#[test]
fn closed_gate_prevents_arming() {
    let scene = scene(1_000);
    scene.open.store(false, Ordering::Release);
    assert!(matches!(scene.tracker.arm(&scene.env), Err(Failure::Refused)));
    assert_eq!(scene.tracker.counts().begun, 0);
    scene.open.store(true, Ordering::Release);
    scene.tracker.arm(&scene.env).expect("watched");
    scene.tracker.release(&scene.env.id);
    assert_eq!((scene.backend.all(), scene.tracker.counts().worktrees), (Vec::new(), 0));
}
