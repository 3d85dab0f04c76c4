//! Portable backend: one `notify` watcher per tree.
//!
//! It requests only notify's core events: with the others (open, close) its own directory walks
//! would overflow the queue. Directories are added one by one, without recursion. Every tree gets a
//! new watcher, because notify sees nothing when a path that was renamed away is watched again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use notify::Watcher as _;
use notify::event::{EventKind, ModifyKind, RenameMode};
use notify::{Config, ErrorKind, EventKindMask, RecommendedWatcher, RecursiveMode};

use crate::sync::lock_unpoisoned;
use crate::world::watch::backend::{Backend, Failure, Happened, Sink, TreeId, What};

#[derive(Debug)]
struct Tree {
    watcher: RecommendedWatcher,
    dirs: BTreeSet<PathBuf>,
}

/// The portable backend.
pub(super) struct Portable {
    sink: Sink,
    trees: Mutex<BTreeMap<TreeId, Arc<Mutex<Tree>>>>,
}

impl std::fmt::Debug for Portable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Portable").field("trees", &self.trees).finish_non_exhaustive()
    }
}

impl Portable {
    pub(super) fn new(sink: Sink) -> Self {
        Self { sink, trees: Mutex::default() }
    }

    fn tree(&self, tree: TreeId) -> Option<Arc<Mutex<Tree>>> {
        lock_unpoisoned(&self.trees).get(&tree).cloned()
    }
}

impl Backend for Portable {
    fn name(&self) -> &'static str {
        "notify"
    }

    fn open(&self, tree: TreeId) -> Result<(), Failure> {
        let sink = Arc::clone(&self.sink);
        let sender = move |event: notify::Result<notify::Event>| {
            for happened in translate(event) {
                sink(tree, happened);
            }
        };
        let config = Config::default().with_event_kinds(EventKindMask::CORE);
        let config = config.with_follow_symlinks(false);
        let watcher = RecommendedWatcher::new(sender, config);
        let watcher = watcher.map_err(|e| failure(Path::new("a worktree"), e))?;
        let new = Tree { watcher, dirs: BTreeSet::new() };
        lock_unpoisoned(&self.trees).insert(tree, Arc::new(Mutex::new(new)));
        Ok(())
    }

    fn add(&self, tree: TreeId, dir: &Path) -> Result<(), Failure> {
        let tree = self.tree(tree).ok_or(Failure::Refused)?;
        let mut tree = lock_unpoisoned(&tree);
        if tree.dirs.contains(dir) {
            // Another directory may have this path by now; `notify` would watch the old one.
            drop(tree.watcher.unwatch(dir));
        }
        let added = tree.watcher.watch(dir, RecursiveMode::NonRecursive);
        added.map_err(|e| failure(dir, e))?;
        tree.dirs.insert(dir.to_owned());
        Ok(())
    }

    fn forget(&self, tree: TreeId, dir: &Path) {
        let Some(tree) = self.tree(tree) else { return };
        let mut tree = lock_unpoisoned(&tree);
        let range = tree.dirs.range(dir.to_owned()..);
        let below: Vec<PathBuf> = range.take_while(|d| d.starts_with(dir)).cloned().collect();
        for dir in below {
            drop(tree.watcher.unwatch(&dir));
            tree.dirs.remove(&dir);
        }
    }

    fn close(&self, tree: TreeId) {
        let gone = lock_unpoisoned(&self.trees).remove(&tree);
        drop(gone);
    }

    fn counts(&self) -> (usize, usize) {
        let trees = lock_unpoisoned(&self.trees);
        (trees.values().map(|t| lock_unpoisoned(t).dirs.len()).sum(), trees.len())
    }
}

fn failure(dir: &Path, error: notify::Error) -> Failure {
    match error.kind {
        ErrorKind::MaxFilesWatch => Failure::Limit("the system allows no more watches".to_owned()),
        ErrorKind::PathNotFound | ErrorKind::WatchNotFound => Failure::Absent(dir.to_owned()),
        // `ENFILE`, `EMFILE` and `ENOSPC`: the limits on files, instances and watches.
        ErrorKind::Io(e) if matches!(e.raw_os_error(), Some(23 | 24 | 28)) => {
            Failure::Limit(format!("the system allows no more watchers ({e})"))
        }
        ErrorKind::Io(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Failure::Absent(dir.to_owned())
        }
        ErrorKind::Io(e) => Failure::Failed(dir.to_owned(), e),
        other => Failure::Failed(dir.to_owned(), std::io::Error::other(format!("{other:?}"))),
    }
}

fn translate(event: notify::Result<notify::Event>) -> Vec<Happened> {
    let Ok(event) = event else { return vec![Happened::Overflow] };
    if event.need_rescan() {
        return vec![Happened::Overflow];
    }
    let kinds: &[What] = match event.kind {
        EventKind::Create(_) => &[What::Made],
        EventKind::Remove(_) => &[What::Removed],
        EventKind::Modify(ModifyKind::Name(RenameMode::From)) => &[What::Removed],
        EventKind::Modify(ModifyKind::Name(RenameMode::To)) => &[What::Made],
        EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => &[What::Removed, What::Made],
        EventKind::Modify(ModifyKind::Name(_)) => &[What::Made],
        EventKind::Modify(_) => &[What::Changed],
        _ => return Vec::new(),
    };
    let happened = event.paths.iter().enumerate().filter_map(|(n, path)| {
        let what = kinds[n.min(kinds.len() - 1)];
        let (dir, name) = (path.parent()?, path.file_name()?);
        let is_dir = path.symlink_metadata().is_ok_and(|found| found.is_dir());
        Some(Happened::In { dir: Arc::from(dir), name: name.to_owned(), what, is_dir })
    });
    // A removal may concern the watched directory itself: the same event, seen from its parent.
    let gone = |what: &What| *what == What::Removed;
    let own = event.paths.first().filter(|_| kinds.first().is_some_and(gone));
    let own = own.map(|path| Happened::Gone(Arc::from(path.as_path())));
    happened.chain(own).collect()
}
