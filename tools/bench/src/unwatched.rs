//! What it costs to ask for the status of worktrees that are not watched and have not changed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::daemon::{Connection, Daemon};
use crate::table::{Table, median, ratio, show};
use crate::watching::{new, repository};

const WORKTREES: usize = 300;
const FILES: usize = 1_500;
const ROUNDS: usize = 7;
/// Questions within which each answer has to be a proven one.
const ASKED_MAX: usize = 20;

fn computed(api: &mut Connection) -> u64 {
    let (status, daemon) = api.call("GET", "/v1/daemon", "");
    assert_eq!(status, 200, "{daemon:#}");
    daemon["watching"]["statuses_computed"].as_u64().expect("a count")
}

/// Asks for all of them; returns the time that it took.
fn ask(api: &mut Connection) -> Duration {
    let began = Instant::now();
    let (status, all) = api.call("GET", "/v1/status", "");
    let took = began.elapsed();
    assert_eq!((status, all.as_array().map(Vec::len)), (200, Some(WORKTREES)));
    took
}

/// The attributes of every file and folder, read one by one.
fn inspect(places: &[PathBuf]) -> Duration {
    let began = Instant::now();
    let mut todo: Vec<PathBuf> = places.to_vec();
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).expect("listed").flatten() {
            let found = entry.path().symlink_metadata().expect("there");
            todo.extend(found.is_dir().then(|| entry.path()));
        }
    }
    began.elapsed()
}

pub(crate) fn unchanged(dir: &Path, table: &mut Table) {
    let dir = dir.join("unwatched");
    let repo = repository(&dir, FILES);
    let daemon = Daemon::start(&dir.join("data"));
    let mut api = daemon.connect();
    let places: Vec<PathBuf> =
        (0..WORKTREES).map(|n| new(&mut api, &repo, &format!("env{n}"))).collect();
    let settled = (0..ASKED_MAX).any(|_| {
        let before = computed(&mut api);
        ask(&mut api);
        computed(&mut api) == before
    });
    assert!(settled, "some worktree never gives a proven answer");
    let before = computed(&mut api);
    let (mut ours, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        plain.push(inspect(&places));
        ours.push(ask(&mut api));
    }
    let (ours, plain) = (median(&mut ours), median(&mut plain));
    let what = "status of 300 unchanged worktrees, s";
    table.row(what, &show(ours), "-", ours.as_secs_f64(), 1.0, false);
    table.note("  the same, against reading all attributes", &format!("{:.2}", ratio(ours, plain)));
    let processes = (computed(&mut api) - before) as f64;
    table.row(
        "  the same, answers that git gave",
        &processes.to_string(),
        "-",
        processes,
        0.0,
        false,
    );
}
