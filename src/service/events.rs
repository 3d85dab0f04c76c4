//! Follows the records of the log from any position, with the output of hooks and the changes of
//! worktrees in between. It gives items no form.
//!
//! Lines that a running hook prints and changes of worktrees are not in the log. A client that
//! resumes gets the changes that it missed, or one item that says that anything may have changed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, broadcast, mpsc, watch};

use crate::core::event::Record;
use crate::core::{EnvironmentId, Fault, Seq, Time};
pub(crate) use crate::engine::watcher::Change;
use crate::engine::watcher::Subscription;
use crate::engine::{Handle, Progress, WatchService};
use crate::service::app::App;
use crate::service::blocking::blocking;
use crate::service::requests::invalid;
use crate::service::streams::{READER_LIMIT, permit};

/// Items that wait for the client.
const ITEMS: usize = 16;
/// Records per read of the log.
const BATCH: usize = 512;
/// Interval of the item that keeps an idle stream open.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Most records that can be asked for from the end of the log.
const LAST_MAX: usize = 10_000;

/// Where a stream begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Beginning {
    /// After this record.
    pub(crate) since: Seq,
    /// At the first record of this time or later.
    pub(crate) from: Option<Time>,
    /// With so many records that there are, at most [`LAST_MAX`].
    pub(crate) last: Option<usize>,
}

/// Returns the record after which a stream begins.
///
/// # Errors
/// `Code::InvalidRequest` for too many, and when the log cannot be read.
pub(crate) async fn begin(
    app: &App,
    wanted: Beginning,
    only: Option<EnvironmentId>,
) -> Result<Seq, Fault> {
    if wanted.from.is_none() && wanted.last.is_none() {
        return Ok(wanted.since);
    }
    if wanted.last.is_some_and(|last| last > LAST_MAX) {
        return Err(invalid(format!("last is more than {LAST_MAX}")));
    }
    let reader = app.handle.reader().clone();
    let find = move || {
        let after = match wanted.from {
            Some(time) => reader.before_time(wanted.since, time)?,
            None => wanted.since,
        };
        wanted.last.map_or(Ok(after), |last| reader.before_last(after, last, only.as_ref()))
    };
    blocking(move || find().map_err(|e| e.to_fault())).await
}

/// What to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selection {
    /// Only records after this one.
    pub(crate) since: Seq,
    /// Only items about this environment.
    pub(crate) only: Option<EnvironmentId>,
    /// Continue with new records after the present ones.
    pub(crate) follow: bool,
    /// Watch the worktrees, and report their changes.
    pub(crate) watch: bool,
    /// Report the output of hooks, and that an idle stream is alive.
    pub(crate) output: bool,
}

/// An item of a stream.
#[derive(Debug)]
pub(crate) enum Item {
    /// Records of the log, in order; never empty.
    Records(Vec<Record>),
    /// Records that were asked for are trimmed from the log: the first one that is left.
    Trimmed(Seq),
    /// A line that a hook printed.
    Line(Progress),
    /// A worktree has changed.
    Change(Change),
    /// Changes were missed; which of the followed environments changed is not known.
    Missed,
    /// The daemon stops, and the stream ends here.
    Stopping,
    /// Nothing has happened for [`HEARTBEAT`], or lines of output were lost.
    Alive,
}

/// Starts a stream, which ends when its receiver is dropped.
///
/// # Errors
/// `Code::LimitReached` if too many streams are open.
pub(crate) fn follow(app: &App, wanted: Selection) -> Result<mpsc::Receiver<Item>, Fault> {
    let permit = permit(app)?;
    let (sender, receiver) = mpsc::channel(ITEMS);
    let watched = wanted.watch.then(|| Watched {
        changes: app.watching.changes(),
        _subscription: app.watching.subscribe(wanted.only.clone()),
        watching: Arc::clone(&app.watching),
    });
    let event_stream = EventStream {
        reader: app.handle.clone(),
        head: app.handle.head(),
        progress: app.handle.progress(),
        watched,
        stop: app.stop.clone(),
        wanted,
        sender,
        permit,
    };
    tokio::spawn(event_stream.run());
    Ok(receiver)
}

/// Receiver of changes, with the subscription that keeps the worktrees watched.
struct Watched {
    changes: broadcast::Receiver<Change>,
    _subscription: Subscription,
    watching: Arc<WatchService>,
}

struct EventStream {
    reader: Handle,
    head: watch::Receiver<Seq>,
    progress: broadcast::Receiver<Progress>,
    watched: Option<Watched>,
    stop: watch::Receiver<bool>,
    wanted: Selection,
    sender: mpsc::Sender<Item>,
    permit: OwnedSemaphorePermit,
}

impl EventStream {
    async fn run(mut self) {
        let Selection { since, follow, .. } = self.wanted;
        let (mut after, mut caught_up) = (since, false);
        // Without `follow` the stream ends when it reaches the head of this moment.
        let goal = *self.head.borrow_and_update();
        loop {
            let reader = self.reader.reader().clone();
            let trimmed = reader.trimmed();
            if after < trimmed {
                if !self.enqueue(Item::Trimmed(trimmed.next())).await {
                    break;
                }
                after = trimmed;
            }
            let only = self.wanted.only.clone();
            // Everything up to here is either read now, or about another environment.
            let seen = *self.head.borrow();
            let read = tokio::task::spawn_blocking(move || match only {
                Some(only) => reader.of_environment(&only, after, BATCH),
                None => reader.read(after, BATCH),
            });
            let read = read.await;
            let records = match read {
                Ok(Ok(records)) => records,
                Ok(Err(e)) => {
                    return tracing::error!(error = %e, "cannot read the log for an event stream");
                }
                Err(_) => return,
            };
            // Trimmed between the two questions: the records begin after what was asked for.
            let trimmed = self.reader.reader().trimmed();
            if after < trimmed && !self.enqueue(Item::Trimmed(trimmed.next())).await {
                break;
            }
            let (full, is_empty) = (records.len() == BATCH, records.is_empty());
            after = records.last().map_or(after.max(trimmed), |r| r.seq);
            if self.wanted.only.is_some() && !full {
                after = after.max(seen);
            }
            if !self.send(records).await || (!follow && (after >= goal || is_empty)) {
                break;
            }
            if full {
                continue;
            }
            // Missed changes follow the records of the log, once.
            if !std::mem::replace(&mut caught_up, true) && !self.send_missed(since).await {
                break;
            }
            if !self.wait(after).await {
                break;
            }
        }
        if follow && *self.stop.borrow() {
            // Not waited for: the daemon must not stop later for a client that reads nothing.
            drop(self.sender.try_send(Item::Stopping));
        }
        drop(self.permit);
    }

    async fn send(&self, records: Vec<Record>) -> bool {
        records.is_empty() || self.enqueue(Item::Records(records)).await
    }

    /// Queues an item for the client. Returns false if the client has disconnected or has read
    /// nothing for [`READER_LIMIT`].
    async fn enqueue(&self, item: Item) -> bool {
        let sent = tokio::time::timeout(READER_LIMIT, self.sender.send(item)).await;
        sent.is_ok_and(|sent| sent.is_ok())
    }

    /// Sends the changes that a resuming client missed; a client that starts at 0 missed none.
    async fn send_missed(&self, since: Seq) -> bool {
        let Some(watched) = self.watched.as_ref().filter(|_| since != Seq(0)) else { return true };
        match watched.watching.since(since) {
            None => self.enqueue(Item::Missed).await,
            Some(changes) => {
                for change in changes {
                    if !self.send_item(Item::Change(change)).await {
                        return false;
                    }
                }
                true
            }
        }
    }

    /// Waits for a record after `after` and sends all other items meanwhile. Returns false when the
    /// stream must end.
    async fn wait(&mut self, after: Seq) -> bool {
        loop {
            let changes = self.watched.as_mut().map(|watched| &mut watched.changes);
            let item = tokio::select! {
                moved = self.head.wait_for(|head| *head > after) => return moved.is_ok(),
                _ = self.stop.wait_for(|stop| *stop) => return false,
                () = self.sender.closed() => return false,
                line = self.progress.recv() => match line {
                    Ok(line) => Item::Line(line),
                    // Hook output is best effort: a slow client misses lines.
                    Err(broadcast::error::RecvError::Lagged(_)) => Item::Alive,
                    Err(broadcast::error::RecvError::Closed) => return false,
                },
                change = next(changes) => match change {
                    Ok(change) => Item::Change(change),
                    Err(broadcast::error::RecvError::Lagged(_)) => Item::Missed,
                    Err(broadcast::error::RecvError::Closed) => return false,
                },
                () = tokio::time::sleep(HEARTBEAT) => Item::Alive,
            };
            if !self.send_item(item).await {
                return false;
            }
        }
    }

    /// Sends an item that is not a record, if it is wanted. Returns false if the client is gone.
    async fn send_item(&self, item: Item) -> bool {
        let is_for_us =
            |id: &EnvironmentId| self.wanted.only.as_ref().is_none_or(|only| only == id);
        let is_wanted = match &item {
            Item::Line(line) => self.wanted.output && is_for_us(&line.environment),
            Item::Alive => self.wanted.output,
            Item::Change(change) => is_for_us(&change.environment),
            Item::Missed | Item::Records(_) | Item::Trimmed(_) | Item::Stopping => true,
        };
        !is_wanted || self.enqueue(item).await
    }
}

/// Returns the next change; waits forever without a receiver.
async fn next(
    changes: Option<&mut broadcast::Receiver<Change>>,
) -> Result<Change, broadcast::error::RecvError> {
    match changes {
        Some(changes) => changes.recv().await,
        None => std::future::pending().await,
    }
}
