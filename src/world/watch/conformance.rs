//! Conformance tests: what every backend must do, and the tracker above it.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use crate::world::watch::backend::*;
use crate::world::watch::select::backend;

const WAIT_LIMIT: Duration = Duration::from_secs(20);

/// Runs a test with both backends, each with a queue of its events.
fn each_backend(test: impl Fn(&dyn Backend, &Receiver<(TreeId, Happened)>)) {
    for portable in [false, true] {
        let (sender, seen) = sync_channel(1 << 20);
        let sink: Sink = Arc::new(move |tree, happened| drop(sender.try_send((tree, happened))));
        let backend = backend(portable, sink);
        test(&*backend, &seen);
    }
}

/// Waits until an event with this name arrives for this tree; panics after the timeout.
fn await_name(
    name: &str,
    tree: TreeId,
    seen: &Receiver<(TreeId, Happened)>,
    backend: &dyn Backend,
) {
    let until = Instant::now() + WAIT_LIMIT;
    loop {
        let rest = until.saturating_duration_since(Instant::now());
        let (of, happened) = seen
            .recv_timeout(rest)
            .unwrap_or_else(|e| panic!("{} sent no event about {name}: {e}", backend.name()));
        if let Happened::In { name: found, .. } = happened
            && (of, found.to_str()) == (tree, Some(name))
        {
            return;
        }
    }
}

#[test]
fn changes_are_reported_per_tree() {
    each_backend(|backend, seen| {
        let (a, b) = (tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made"));
        for (tree, dir) in [(1, &a), (2, &b)] {
            backend.open(tree).expect("opened");
            backend.add(tree, dir.path()).expect("added");
        }
        for (tree, dir) in [(1, &a), (2, &b)] {
            std::fs::write(dir.path().join("new"), "x").expect("written");
            await_name("new", tree, seen, backend);
            std::fs::rename(dir.path().join("new"), dir.path().join("other")).expect("renamed");
            await_name("other", tree, seen, backend);
            std::fs::remove_file(dir.path().join("other")).expect("removed");
            await_name("other", tree, seen, backend);
        }
        assert_eq!(backend.counts().0, 2);
    });
}

#[test]
fn closed_tree_is_silent_and_frozen() {
    each_backend(|backend, seen| {
        let (a, b) = (tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made"));
        for (tree, dir) in [(1, &a), (2, &b)] {
            backend.open(tree).expect("opened");
            backend.add(tree, dir.path()).expect("added");
        }
        backend.close(1);
        assert!(matches!(backend.add(1, a.path()), Err(Failure::Refused)));
        std::fs::write(a.path().join("unseen"), "x").expect("written");
        std::fs::write(b.path().join("seen"), "x").expect("written");
        await_name("seen", 2, seen, backend);
        let rest: Vec<_> = seen.try_iter().filter(|(tree, _)| *tree == 1).collect();
        assert_eq!(rest, [], "{}", backend.name());
        assert_eq!(backend.counts().0, 1);
    });
}

/// Rename to the trash and a new directory of the same name, as teardown and provision do.
#[test]
fn reused_path_is_watched_again() {
    each_backend(|backend, seen| {
        let dir = tempfile::tempdir().expect("made");
        let (place, trash) = (dir.path().join("place"), dir.path().join("trash"));
        std::fs::create_dir(&place).expect("made");
        backend.open(1).expect("opened");
        backend.add(1, &place).expect("added");
        for (again_in_the_same_tree, tree) in [(true, 1), (false, 2)] {
            std::fs::rename(&place, &trash).expect("renamed");
            std::fs::create_dir(&place).expect("made");
            if again_in_the_same_tree {
                backend.forget(1, &place);
            } else {
                backend.close(1);
                backend.open(tree).expect("opened");
            }
            backend.add(tree, &place).expect("added");
            std::fs::write(trash.join("old"), "x").expect("written");
            std::fs::write(place.join("new"), "x").expect("written");
            await_name("new", tree, seen, backend);
            std::fs::remove_dir_all(&trash).expect("removed");
        }
    });
}

#[test]
fn missing_directory_is_reported_absent() {
    each_backend(|backend, _| {
        let dir = tempfile::tempdir().expect("made");
        backend.open(1).expect("opened");
        let added = backend.add(1, &dir.path().join("nowhere"));
        assert!(matches!(added, Err(Failure::Absent(_))), "{}: {added:?}", backend.name());
    });
}

/// A sibling whose name begins with the same letters stays watched.
#[test]
fn forgotten_directory_drops_its_subtree() {
    each_backend(|backend, seen| {
        let dir = tempfile::tempdir().expect("made");
        let deep = dir.path().join("a/b");
        std::fs::create_dir_all(&deep).expect("made");
        std::fs::create_dir(dir.path().join("a.b")).expect("made");
        backend.open(1).expect("opened");
        for place in [dir.path(), &dir.path().join("a"), &deep, &dir.path().join("a.b")] {
            backend.add(1, place).expect("added");
        }
        backend.forget(1, &dir.path().join("a"));
        assert_eq!(backend.counts().0, 2);
        std::fs::write(deep.join("unseen"), "x").expect("written");
        std::fs::write(dir.path().join("a.b/seen"), "x").expect("written");
        await_name("seen", 1, seen, backend);
    });
}

/// No event is lost silently.
#[test]
fn event_burst_complete_or_overflow() {
    each_backend(|backend, seen| {
        let dir = tempfile::tempdir().expect("made");
        backend.open(1).expect("opened");
        backend.add(1, dir.path()).expect("added");
        for n in 0..30_000 {
            std::fs::write(dir.path().join(format!("file{n}")), "").expect("written");
        }
        let mut found = std::collections::BTreeSet::new();
        let until = Instant::now() + WAIT_LIMIT;
        while found.len() < 30_000 {
            let rest = until.saturating_duration_since(Instant::now());
            match seen.recv_timeout(rest) {
                Ok((_, Happened::In { name, .. })) => drop(found.insert(name)),
                Ok((_, Happened::Overflow)) => return,
                Ok(_) => {}
                Err(e) => panic!("{}: lost {}: {e}", backend.name(), 30_000 - found.len()),
            }
        }
    });
}

#[test]
fn kernel_failures_have_distinct_messages() {
    let limit = Failure::Limit("no room".to_owned());
    assert_eq!(limit.to_string(), "no room");
    let gone = Failure::Absent(Path::new("/a/b").to_owned());
    assert_eq!(gone.to_string(), "/a/b does not exist");
}
