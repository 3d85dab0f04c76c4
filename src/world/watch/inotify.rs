//! Linux backend: a few inotify instances shared by all trees, and one thread that reads them.
//!
//! The kernel allows a user 128 instances by default, which all daemons and editors of that user
//! share. So an instance is made for the first tree that needs one, and given back with the last: a
//! daemon that watches nothing holds none. Each tree lives in one instance. When the kernel drops
//! events of an instance, only its trees get an overflow. A directory costs one map entry and one
//! copy of its path.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::inotify;
use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use crate::failpoint::fault;
use crate::sync::lock_unpoisoned;
use crate::world::watch::backend::{Backend, Failure, Happened, Sink, TreeId, What};
use crate::world::watch::placement::{Placement, SHARDS};

/// Bytes read from one instance in a round, so that a storm in one does not starve the others.
const READ_BYTES: usize = 64 * 1024;
/// Timeout of `sync`: in an endless storm of events the caller gets `false` instead of waiting.
const SYNC_MAX: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
struct Shard {
    watches: Mutex<Watches>,
}

#[derive(Debug, Default)]
struct Watches {
    /// None while no tree lives here.
    instance: Option<Arc<OwnedFd>>,
    /// Owners by watch descriptor. One directory may be in several trees of an instance; the kernel
    /// gives it one descriptor.
    by_number: BTreeMap<i32, Vec<(TreeId, Arc<Path>)>>,
    by_tree: BTreeMap<TreeId, BTreeMap<Arc<Path>, i32>>,
}

#[derive(Debug)]
struct Shared {
    shards: [Shard; SHARDS],
    /// Locked before the watches of a shard, and while an instance is made or given back.
    placement: Mutex<Placement>,
    wake: OwnedFd,
    stop: AtomicBool,
    /// Number of rounds requested by `sync`, and the last one that found all queues empty.
    asked: AtomicU64,
    synced: Mutex<u64>,
    caught_up: Condvar,
}

/// The Linux backend.
#[derive(Debug)]
pub(super) struct Inotify {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

fn locked(shard: &Shard) -> MutexGuard<'_, Watches> {
    lock_unpoisoned(&shard.watches)
}

impl Inotify {
    /// Starts the reading thread; no instance exists yet.
    pub(super) fn start(sink: Sink) -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Shared {
            shards: Default::default(),
            placement: Mutex::default(),
            wake,
            stop: AtomicBool::new(false),
            asked: AtomicU64::new(0),
            synced: Mutex::new(0),
            caught_up: Condvar::new(),
        };
        let shared = Arc::new(shared);
        let reading = Arc::clone(&shared);
        let run = move || reading.read(&sink);
        let thread = std::thread::Builder::new().name("gk-inotify".to_owned()).spawn(run)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Returns the shard of an open tree.
    fn shard(&self, tree: TreeId) -> Option<&Shard> {
        let place = lock_unpoisoned(&self.shared.placement).of(tree)?;
        self.shared.shards.get(place)
    }
}

impl Drop for Inotify {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake();
        // The last reference may be dropped on that very thread, inside the sink; joining
        // itself would deadlock.
        let other = |thread: &JoinHandle<()>| thread.thread().id() != std::thread::current().id();
        drop(self.thread.take().filter(other).map(JoinHandle::join));
    }
}

impl Backend for Inotify {
    fn name(&self) -> &'static str {
        "inotify"
    }

    fn open(&self, tree: TreeId) -> Result<(), Failure> {
        let mut placement = lock_unpoisoned(&self.shared.placement);
        let place = placement.add(tree, |place| self.shared.shards[place].start())?;
        locked(&self.shared.shards[place]).by_tree.insert(tree, BTreeMap::new());
        // The thread waits for the instances that it knew when it began to wait.
        self.shared.wake();
        Ok(())
    }

    fn add(&self, tree: TreeId, dir: &Path) -> Result<(), Failure> {
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR
            | WatchFlags::DONT_FOLLOW
            | WatchFlags::EXCL_UNLINK;
        let shard = self.shard(tree).ok_or(Failure::Refused)?;
        // Held until the descriptor is recorded: an event that arrives in between is then
        // attributed to the right tree.
        let mut watches = locked(shard);
        let instance = watches.instance.clone().filter(|_| watches.by_tree.contains_key(&tree));
        let instance = instance.ok_or(Failure::Refused)?;
        let number = inotify::add_watch(&instance, dir, flags).map_err(|e| failure(dir, e))?;
        let dir: Arc<Path> = Arc::from(dir);
        let owners = watches.by_number.entry(number).or_default();
        let before = owners.iter().position(|(owner, path)| *owner == tree && *path != dir);
        // The kernel returns the same descriptor for a directory that was moved and added under its
        // new path; the old path is dropped.
        let moved = before.map(|at| owners.remove(at).1);
        if !owners.iter().any(|(owner, _)| *owner == tree) {
            owners.push((tree, Arc::clone(&dir)));
        }
        let dirs = watches.by_tree.entry(tree).or_default();
        if let Some(place) = moved {
            dirs.remove(&place);
        }
        if let Some(stale) = dirs.insert(dir, number).filter(|stale| *stale != number) {
            // Another directory had this path before.
            watches.disown(tree, stale);
        }
        Ok(())
    }

    fn forget(&self, tree: TreeId, dir: &Path) {
        let Some(shard) = self.shard(tree) else { return };
        let mut watches = locked(shard);
        let Some(dirs) = watches.by_tree.get_mut(&tree) else { return };
        // Paths sort by components: everything below a directory follows it.
        let below = dirs.range(Arc::from(dir)..).take_while(|(path, _)| path.starts_with(dir));
        let below: Vec<(Arc<Path>, i32)> = below.map(|(p, n)| (Arc::clone(p), *n)).collect();
        for (path, _) in &below {
            dirs.remove(path);
        }
        for (_, number) in below {
            watches.disown(tree, number);
        }
    }

    fn close(&self, tree: TreeId) {
        let mut placement = lock_unpoisoned(&self.shared.placement);
        let Some((place, is_empty)) = placement.remove(tree) else { return };
        let mut watches = locked(&self.shared.shards[place]);
        for number in watches.by_tree.remove(&tree).unwrap_or_default().into_values() {
            watches.disown(tree, number);
        }
        if is_empty {
            *watches = Watches::default();
            // The thread holds the instance for as long as it waits for its events.
            self.shared.wake();
        }
    }

    fn sync(&self) -> bool {
        // The kernel queues an event before the system call that caused it returns. So an empty
        // queue means that every past event has been reported.
        let ticket = self.shared.asked.fetch_add(1, Ordering::AcqRel) + 1;
        let until = Instant::now() + SYNC_MAX;
        let mut synced = lock_unpoisoned(&self.shared.synced);
        self.shared.wake();
        while *synced < ticket {
            let rest = until.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return false;
            }
            let waited = self.shared.caught_up.wait_timeout(synced, rest);
            synced = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn counts(&self) -> (usize, usize) {
        let shards = self.shared.shards.iter().map(locked);
        let of =
            |s: MutexGuard<'_, Watches>| (s.by_number.len(), usize::from(s.instance.is_some()));
        shards.map(of).fold((0, 0), |(w, i), (watches, instances)| (w + watches, i + instances))
    }
}

fn failure(dir: &Path, errno: Errno) -> Failure {
    match errno {
        Errno::NOSPC | Errno::NOMEM | Errno::MFILE | Errno::NFILE => Failure::Limit(format!(
            "the system allows no more watches ({errno}); raise fs.inotify.max_user_watches"
        )),
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP => Failure::Absent(dir.to_owned()),
        errno => Failure::Failed(dir.to_owned(), errno.into()),
    }
}

impl Shared {
    fn wake(&self) {
        // A failed write means a full counter, which wakes the thread as well.
        let _written = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    fn read(&self, sink: &Sink) {
        let mut buffer = vec![MaybeUninit::uninit(); READ_BYTES];
        while !self.stop.load(Ordering::Acquire) {
            // Before the instances are listed: what is asked later may be about a later one.
            let asked = self.asked.load(Ordering::Acquire);
            let open = |s| locked(s).instance.clone().map(|instance| (s, instance));
            let open: Vec<(&Shard, Arc<OwnedFd>)> = self.shards.iter().filter_map(open).collect();
            let mut fds: Vec<PollFd<'_>> =
                open.iter().map(|(_, fd)| PollFd::new(fd, PollFlags::IN)).collect();
            fds.push(PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN));
            let waits = asked > *lock_unpoisoned(&self.synced);
            let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            match poll(&mut fds, waits.then_some(&now)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return tracing::error!(error = %e, "the inotify watcher has ended"),
            }
            let mut ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            if ready.pop() == Some(true) {
                let _cleared = rustix::io::read(&self.wake, &mut [0; 8]);
            }
            if waits && !ready.contains(&true) {
                *lock_unpoisoned(&self.synced) = asked;
                self.caught_up.notify_all();
            }
            for ((shard, instance), _) in open.iter().zip(ready).filter(|(_, ready)| *ready) {
                for (tree, happened) in shard.take(instance, &mut buffer) {
                    sink(tree, happened);
                }
            }
        }
    }
}

impl Watches {
    /// Removes a tree from the owners of a directory; the last owner removes the kernel's watch.
    fn disown(&mut self, tree: TreeId, number: i32) {
        let Some(owners) = self.by_number.get_mut(&number) else { return };
        owners.retain(|(owner, _)| *owner != tree);
        if owners.is_empty() {
            self.by_number.remove(&number);
            if let Some(instance) = &self.instance {
                let _gone = inotify::remove_watch(instance, number);
            }
        }
    }
}

impl Shard {
    /// Makes the instance for the first tree.
    fn start(&self) -> Result<(), Failure> {
        let made = fault::call("inotify")
            .and_then(|()| Ok(inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?));
        let instance = made.map_err(|e| {
            let hint = "raise fs.inotify.max_user_instances";
            Failure::Limit(format!("the system grants no inotify instance ({e}); {hint}"))
        })?;
        locked(self).instance = Some(Arc::new(instance));
        Ok(())
    }

    /// Reads one buffer of events of an instance.
    fn take(
        &self,
        instance: &Arc<OwnedFd>,
        buffer: &mut [MaybeUninit<u8>],
    ) -> Vec<(TreeId, Happened)> {
        let mut seen = Vec::new();
        let mut reader = Reader::new(instance, buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|n| n.to_bytes().to_vec());
                    let mut watches = locked(self);
                    // The numbers of an instance that was given back mean nothing to the next.
                    if watches.instance.as_ref().is_some_and(|now| Arc::ptr_eq(now, instance)) {
                        watches.on_event(event.wd(), event.events(), name, &mut seen);
                    }
                }
                Err(Errno::INTR) => continue,
                Err(_) => break,
            }
            if reader.is_buffer_empty() {
                break;
            }
        }
        seen
    }
}

impl Watches {
    fn on_event(
        &mut self,
        number: i32,
        events: ReadFlags,
        name: Option<Vec<u8>>,
        seen: &mut Vec<(TreeId, Happened)>,
    ) {
        if events.contains(ReadFlags::QUEUE_OVERFLOW) {
            seen.extend(self.by_tree.keys().map(|tree| (*tree, Happened::Overflow)));
            return;
        }
        // The kernel has dropped the watch: its directory is deleted, or its file system unmounted.
        if events.contains(ReadFlags::IGNORED) {
            for (tree, path) in self.by_number.remove(&number).unwrap_or_default() {
                if let Some(dirs) = self.by_tree.get_mut(&tree)
                    && dirs.get(&path) == Some(&number)
                {
                    dirs.remove(&path);
                }
            }
            return;
        }
        let owners = self.by_number.get(&number).map(Vec::as_slice).unwrap_or_default();
        if events.intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT) {
            let gone = |(tree, dir): &(TreeId, Arc<Path>)| (*tree, Happened::Gone(Arc::clone(dir)));
            seen.extend(owners.iter().map(gone));
            return;
        }
        let Some(name) = name.map(OsString::from_vec) else { return };
        let what = if events.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
            What::Made
        } else if events.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM) {
            What::Removed
        } else {
            What::Changed
        };
        let is_dir = events.contains(ReadFlags::ISDIR);
        for (tree, dir) in owners {
            let (dir, name) = (Arc::clone(dir), name.clone());
            let wakeup = (*tree, Happened::In { dir, name, what, is_dir });
            // Repeated writes to one file are reported once per buffer.
            if seen.last() != Some(&wakeup) {
                seen.push(wakeup);
            }
        }
    }
}
