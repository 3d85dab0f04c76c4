//! The loop itself.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{broadcast, watch};

use crate::core::event::Record;
use crate::core::suspend::{Clocks, SuspendDetector};
use crate::core::{Command, Event, Fault, Seq, State, Time};
use crate::engine::disk_guard::Space;
use crate::engine::driver::{self, Driver};
use crate::engine::handle::{Handle, Message, Progress, Receipt, Reply};
use crate::failpoint::fault;
use crate::failpoint::kill::point;
use crate::journal::{self, Journal};
use crate::migrate::MigrationRunner;
use crate::world::World;
use crate::world::relocation::HighWater;

/// Most commands that wait in the mailbox; more are refused.
pub const MAILBOX_MAX: usize = 1_024;
/// Most commands that one commit takes.
const BATCH_MAX: usize = 1_024;
/// How often the free space is looked at while there is something in the trash.
const SPACE_EVERY: Duration = Duration::from_secs(60);
/// Silence after which the log is made fast to open.
const IDLE: Duration = Duration::from_millis(200);
/// Longest time that running effects get to end at a shutdown.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// Lines of hook output that a slow watcher may fall behind.
const PROGRESS_KEPT: usize = 4_096;

/// How the loop ended.
#[derive(Debug)]
pub enum Ended {
    /// As asked; everything is on disk.
    Orderly,
    /// The log could not be written. Memory may be ahead of it: the process must end.
    Journal(journal::Error),
}

/// The single writer: journal, state and driver.
pub struct Engine {
    journal: Journal,
    state: State,
    view: Arc<RwLock<State>>,
    head: watch::Sender<Seq>,
    mailbox: Receiver<Message>,
    driver: Driver,
    space: Space,
    /// Kept outside the log, so that one that was put back from a backup is told from this one.
    high_water: Option<HighWater>,
    stopping: Option<(String, Instant)>,
    /// A time that is not behind the log, and when it was taken on the clock that only goes on.
    anchor: (Time, Instant),
    waking: SuspendDetector,
}

/// A batch that is decided and not yet durable.
#[derive(Default)]
struct Batch {
    records: Vec<Record>,
    replies: Vec<(Reply, Result<bool, Fault>)>,
}

impl Engine {
    /// An engine over an open log and the state that it holds, and the door to it.
    #[must_use]
    pub fn new(journal: Journal, state: State, world: Arc<World>) -> (Self, Handle) {
        let (sender, mailbox): (SyncSender<Message>, _) = sync_channel(MAILBOX_MAX);
        let (progress, _) = broadcast::channel::<Progress>(PROGRESS_KEPT);
        let view = Arc::new(RwLock::new(state.clone()));
        let (head, head_watch) = watch::channel(state.seq());
        let handle = Handle {
            mailbox: sender.clone(),
            view: Arc::clone(&view),
            head: head_watch,
            progress: progress.clone(),
            reader: journal.reader(),
        };
        let space = Space::new(world.layout().root());
        let driver = Driver::new(world, sender, progress);
        let anchor = (wall_clock().max(state.at()), Instant::now());
        let (stopping, waking) = (None, SuspendDetector::new(clocks(anchor.1)));
        let high_water = None;
        let engine = Self {
            journal,
            state,
            view,
            head,
            mailbox,
            driver,
            space,
            high_water,
            stopping,
            anchor,
            waking,
        };
        (engine, handle)
    }

    /// Lets migrations be worked on at this desk.
    #[must_use]
    pub fn with_desk(mut self, desk: Arc<MigrationRunner>) -> Self {
        self.driver.set_desk(desk);
        self
    }

    /// Notes after each commit how far the log goes.
    #[must_use]
    pub fn with_high_water(mut self, mark: HighWater) -> Self {
        self.high_water = Some(mark);
        self
    }

    /// Sets the free bytes below which the trash is emptied early, the oldest first.
    #[must_use]
    pub fn with_low_disk(mut self, bytes: u64) -> Self {
        self.space.set_low(bytes);
        self
    }

    /// Runs until a shutdown or a storage failure. `started` is decided before anything else.
    #[must_use]
    pub fn run(mut self, started: Command) -> Ended {
        match self.serve(started) {
            Ok(()) => Ended::Orderly,
            Err(e) => Ended::Journal(e),
        }
    }

    fn serve(&mut self, started: Command) -> Result<(), journal::Error> {
        let mut batch = Batch::default();
        self.decide(&mut batch, started, None);
        self.finish(batch)?;
        let mut last_work = Instant::now();
        while !self.is_over() {
            let mut batch = Batch::default();
            let message = self.mailbox.recv_timeout(self.patience(last_work));
            self.wake(&mut batch);
            match message {
                Ok(message) => {
                    self.take(&mut batch, message);
                    while batch.replies.len() < BATCH_MAX
                        && let Ok(message) = self.mailbox.try_recv()
                    {
                        self.take(&mut batch, message);
                    }
                    last_work = Instant::now();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.state.next_deadline(Time(0)).is_some_and(|t| t <= self.now()) {
                self.decide(&mut batch, Command::Tick, None);
            }
            if self.state.has_trash() && self.stopping.is_none() && self.space.is_low() {
                self.decide(&mut batch, Command::DiskLow, None);
            }
            self.finish(batch)?;
            if last_work.elapsed() >= IDLE {
                self.journal.checkpoint()?;
            }
        }
        self.end()
    }

    /// After a sleep, and before anything else is decided: what was in use still is.
    fn wake(&mut self, batch: &mut Batch) {
        let Some(slept) = self.waking.look(clocks(self.anchor.1)) else { return };
        tracing::info!(?slept, "the machine has slept; leases are renewed");
        for renewal in self.state.renewals(slept) {
            self.decide(batch, renewal, None);
        }
    }

    /// How long there is nothing to do but wait for the mailbox.
    fn patience(&self, last_work: Instant) -> Duration {
        const FOREVER: Duration = Duration::from_secs(3_600);
        let now = self.now();
        let deadline = self.state.next_deadline(now).map_or(FOREVER, |t| t.since(now));
        let idle = if self.journal.is_checkpointed() {
            FOREVER
        } else {
            IDLE.saturating_sub(last_work.elapsed())
        };
        let drain = self
            .stopping
            .as_ref()
            .map_or(FOREVER, |(_, since)| DRAIN_LIMIT.saturating_sub(since.elapsed()));
        let again = if self.driver.is_stuck() { Duration::from_secs(1) } else { FOREVER };
        let space = if self.state.has_trash() { SPACE_EVERY } else { FOREVER };
        deadline.min(idle).min(drain).min(again).min(space)
    }

    fn is_over(&self) -> bool {
        self.stopping
            .as_ref()
            .is_some_and(|(_, since)| self.driver.is_idle() || since.elapsed() >= DRAIN_LIMIT)
    }

    fn take(&mut self, batch: &mut Batch, message: Message) {
        match message {
            Message::Command(command, reply) => self.decide(batch, command, Some(reply)),
            Message::Home(id, outcome) => {
                self.driver.home(&id);
                // What was stopped for the shutdown is owed again after the next start.
                if self.stopping.is_none() || !driver::is_interruption(&outcome) {
                    self.decide(batch, Command::Settle { effect: id, outcome }, None);
                }
            }
            Message::Shutdown(reason) => {
                self.stopping.get_or_insert_with(|| (reason, Instant::now()));
                self.driver.cancel_all();
            }
        }
    }

    /// Decides one command against the state as it will be after this batch. The state runs ahead
    /// of the disk here; nobody sees it before the commit, and a failed commit ends the process.
    fn decide(&mut self, batch: &mut Batch, command: Command, reply: Option<Reply>) {
        let now = self.now();
        let allowed = self.space.allows(&command);
        let decided = match (allowed, self.stopping.is_some() && is_new_work(&command)) {
            (Err(fault), _) => Err(fault),
            (Ok(()), true) => Err(stopping()),
            (Ok(()), false) => self.state.decide(now, command),
        };
        let changed = decided.map(|events| {
            let changed = !events.is_empty();
            for event in events {
                let record = self.record(now, event);
                self.state.apply(&record);
                batch.records.push(record);
            }
            changed
        });
        if let Some(reply) = reply {
            batch.replies.push((reply, changed));
        }
    }

    fn record(&self, at: Time, event: Event) -> Record {
        let start = u32::from(matches!(event, Event::DaemonStarted(_)));
        Record { seq: self.state.seq().next(), at, boot: self.state.boot() + start, event }
    }

    /// Commit, publish, reply, act: in this order.
    fn finish(&mut self, batch: Batch) -> Result<(), journal::Error> {
        point("engine.decided");
        if !batch.records.is_empty() {
            self.space.before_commit();
            fault::call("append").map_err(unwritten)?;
            self.journal.append(&batch.records, &self.state)?;
            point("engine.committed");
            if let Some(mark) = &self.high_water {
                mark.note(self.state.seq());
            }
            let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
            for record in &batch.records {
                view.apply(record);
            }
            drop(view);
            self.head.send_replace(self.state.seq());
        }
        let seq = self.state.seq();
        for (reply, result) in batch.replies {
            reply(result.map(|changed| Receipt { seq, changed }));
        }
        point("engine.replied");
        if self.stopping.is_none() {
            self.driver.start_owed(&self.state, self.now());
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), journal::Error> {
        let reason = self.stopping.take().map_or_else(String::new, |(reason, _)| reason);
        let mut batch = Batch::default();
        self.decide(&mut batch, Command::Stop { reason }, None);
        self.stopping = Some((String::new(), Instant::now()));
        self.finish(batch)?;
        self.journal.checkpoint()
    }

    /// Wall clock, but never behind the last record, and never standing still: a clock that is set
    /// back must neither reorder the log nor hold up what waits for a time.
    fn now(&self) -> Time {
        let (base, started) = self.anchor;
        wall_clock().max(base.after(started.elapsed())).max(self.state.at())
    }
}

fn wall_clock() -> Time {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let set = i128::from(fault::clock_offset_ns());
    let nanos = i128::try_from(since.as_nanos()).unwrap_or(i128::MAX).saturating_add(set);
    Time(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
}

/// A storage failure that a test ordered.
fn unwritten(source: std::io::Error) -> journal::Error {
    journal::Error::Io { what: "write the log", path: std::path::PathBuf::new(), source }
}

fn clocks(began: Instant) -> Clocks {
    Clocks { awake: began.elapsed(), wall: Duration::from_nanos(wall_clock().0) }
}

fn is_new_work(command: &Command) -> bool {
    matches!(command, Command::Provision { .. } | Command::Destroy { .. } | Command::Lease { .. })
}

fn stopping() -> Fault {
    let code = crate::core::Code::ShuttingDown;
    Fault::new(code, "the daemon is shutting down", "start it again").transient()
}
