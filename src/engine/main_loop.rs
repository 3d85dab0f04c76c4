//! The engine's loop: the only writer of the log and of the state.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::{broadcast, watch};
use tracing::Span;

use crate::core::event::{FormerLife, Record};
use crate::core::suspend::SuspendDetector;
use crate::core::{Code, Command, Demand, Event, Fault, Seq, State, Time};
use crate::engine::anchor::Anchor;
use crate::engine::disk_guard::DiskGuard;
use crate::engine::driver::{self, Driver};
use crate::engine::handle::{Handle, Message, Progress, Receipt, Reply};
use crate::engine::log_trim::{LogLimits, LogTrimmer, Prepared};
use crate::engine::spans::{self, RecordLine};
use crate::engine::{former, record_size};
use crate::failpoint::fault;
use crate::failpoint::kill::point;
use crate::journal::{self, Journal, Reader};
use crate::migrate::MigrationRunner;
use crate::world::World;
use crate::world::relocation::HighWater;
use groundskeeper_system::heap;

/// Most commands that wait in the mailbox; further ones are refused.
pub const MAILBOX_MAX: usize = 1_024;
/// Most commands with a reply in one commit. Outcomes of effects do not count.
const BATCH_MAX: usize = 1_024;
/// Interval of the check of free space while the trash has entries.
const SPACE_EVERY: Duration = Duration::from_secs(60);
/// Time without a message after which a checkpoint makes the next open of the log fast.
const IDLE: Duration = Duration::from_millis(200);
/// Longest time that a shutdown waits for running effects.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// Lines of hook output that a slow subscriber can lag behind before it misses some.
const PROGRESS_KEPT: usize = 4_096;

/// Reason why the loop ended.
#[derive(Debug)]
pub enum Ended {
    /// A shutdown was requested; everything is on disk.
    Orderly,
    /// The log could not be written. Memory may be ahead of it, so the process must end.
    Journal(journal::Error),
}

/// The single writer: owns journal, state and driver.
pub struct Engine {
    journal: Journal,
    /// Finds the lives that the state has forgotten.
    reader: Reader,
    state: State,
    view: Arc<RwLock<State>>,
    head: watch::Sender<Seq>,
    mailbox: Receiver<Message>,
    driver: Driver,
    disk_guard: DiskGuard,
    trimmer: LogTrimmer,
    /// Kept outside the log, so that a log restored from a backup is recognised as older.
    high_water: Option<HighWater>,
    stopping: Option<(String, Instant)>,
    anchor: Anchor,
    /// When owed effects were looked for last. What became due after it has not been started.
    looked_at: Time,
    suspend_detector: SuspendDetector,
}

/// Events of one or more commands, decided and applied, but not yet durable.
#[derive(Default)]
struct Batch {
    records: Vec<Record>,
    /// The log lines of the records, one each.
    lines: Vec<RecordLine>,
    replies: Vec<(Reply, Result<bool, Fault>)>,
    /// The lives that the records forget: the index has them only after the commit.
    forgotten: Vec<FormerLife>,
    /// What the log begins with after the trim that the records decide.
    base: Option<journal::Base>,
}

impl Engine {
    /// Returns an engine over an open log and its state, and the handle to it.
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
        world.set_former_lives(Arc::new(former::Index(journal.reader())));
        let disk_guard = DiskGuard::new(world.layout());
        let to_loop = sender.clone();
        // A closed mailbox: the daemon ends, and the next one begins the trim anew.
        let deliver = move |prepared| drop(to_loop.send(Message::Trimmed(prepared)));
        let trimmer = LogTrimmer::new(journal.reader(), Arc::new(deliver));
        let driver = Driver::new(world, sender, progress);
        let anchor = Anchor::at(state.at());
        let (stopping, suspend_detector) = (None, SuspendDetector::new(anchor.clocks()));
        let high_water = None;
        let engine = Self {
            reader: journal.reader(),
            journal,
            state,
            view,
            head,
            mailbox,
            driver,
            disk_guard,
            trimmer,
            high_water,
            stopping,
            anchor,
            looked_at: Time(0),
            suspend_detector,
        };
        (engine, handle)
    }

    /// Sets the runner that performs the steps of migrations.
    #[must_use]
    pub fn with_migration_runner(mut self, migration_runner: Arc<MigrationRunner>) -> Self {
        self.driver.set_migration_runner(migration_runner);
        self
    }

    /// Sets the mark that notes after each commit how far the log goes.
    #[must_use]
    pub fn with_high_water(mut self, mark: HighWater) -> Self {
        self.high_water = Some(mark);
        self
    }

    /// Sets the free bytes below which the oldest trash entries are removed early.
    #[must_use]
    pub fn with_low_disk(mut self, bytes: u64) -> Self {
        self.disk_guard.set_low(bytes);
        self
    }

    /// Sets what is trimmed from the log; without it nothing is.
    #[must_use]
    pub fn with_log_limits(mut self, limits: LogLimits) -> Self {
        self.trimmer.set_limits(limits);
        self
    }

    /// Runs until a shutdown or a storage failure. `started` is decided before any other command.
    #[must_use]
    pub fn run(mut self, started: Command) -> Ended {
        match self.serve(started) {
            Ok(()) => Ended::Orderly,
            Err(e) => Ended::Journal(e),
        }
    }

    fn serve(&mut self, started: Command) -> Result<(), journal::Error> {
        let mut batch = Batch::default();
        self.decide(&mut batch, started, None, &Span::none());
        self.finish(batch)?;
        let mut last_work = Instant::now();
        while !self.is_over() {
            let mut batch = Batch::default();
            let message = self.mailbox.recv_timeout(self.next_wakeup(last_work));
            self.renew_leases(&mut batch);
            match message {
                Ok(message) => {
                    let mut is_work = message.is_work();
                    self.handle(&mut batch, message);
                    while batch.replies.len() < BATCH_MAX
                        && let Ok(message) = self.mailbox.try_recv()
                    {
                        is_work |= message.is_work();
                        self.handle(&mut batch, message);
                    }
                    last_work = if is_work { Instant::now() } else { last_work };
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.state.next_deadline(Time(0)).is_some_and(|t| t <= self.now()) {
                self.decide(&mut batch, Command::Tick, None, &Span::none());
            }
            if self.state.has_trash() && self.stopping.is_none() && self.disk_guard.is_low() {
                self.decide(&mut batch, Command::DiskLow, None, &Span::none());
            }
            self.finish(batch)?;
            if self.stopping.is_none() && self.trims()? {
                continue;
            }
            if last_work.elapsed() >= IDLE && !self.journal.is_checkpointed() {
                fault::call("checkpoint").map_err(unwritten)?;
                self.journal.checkpoint()?;
                heap::give_back();
            }
        }
        self.end()
    }

    fn trims(&mut self) -> Result<bool, journal::Error> {
        let now = self.now();
        self.trimmer.step(&mut self.journal, &mut self.disk_guard, &self.state, now)
    }

    /// Decides a trim that is prepared.
    fn trim(&mut self, batch: &mut Batch, prepared: Prepared) {
        let Some((event, base)) = self.trimmer.prepared(prepared) else { return };
        self.decide(batch, Command::TrimLog(event), None, &Span::none());
        let is_decided = |record: &Record| matches!(record.event, Event::LogTrimmed(_));
        batch.base = batch.records.iter().any(is_decided).then_some(base);
    }

    /// Renews the leases after a suspend, before any other command can let them expire.
    fn renew_leases(&mut self, batch: &mut Batch) {
        let Some(suspended) = self.suspend_detector.poll(self.anchor.clocks()) else { return };
        tracing::info!(?suspended, "the machine was suspended; leases are renewed");
        for renewal in self.state.renewals(suspended) {
            self.decide(batch, renewal, None, &Span::none());
        }
    }

    /// Returns how long the loop may wait for the mailbox without missing a deadline.
    fn next_wakeup(&self, last_work: Instant) -> Duration {
        const FOREVER: Duration = Duration::from_secs(3_600);
        // As of the last look: a deadline that passed since then, in a checkpoint, is not missed.
        let deadline = self.state.next_deadline(self.looked_at);
        let deadline = deadline.map_or(FOREVER, |t| t.since(self.now()));
        let idle = if self.journal.is_checkpointed() {
            FOREVER
        } else {
            IDLE.saturating_sub(last_work.elapsed())
        };
        let drain = self
            .stopping
            .as_ref()
            .map_or(FOREVER, |(_, since)| DRAIN_LIMIT.saturating_sub(since.elapsed()));
        // No message announces a free thread or descriptor, so a failed start is retried.
        let again = if self.driver.is_stuck() { Duration::from_secs(1) } else { FOREVER };
        let trim = if !self.journal.has_trimmed() || self.stopping.is_some() {
            FOREVER
        } else if self.disk_guard.check_space().is_ok() {
            Duration::ZERO
        } else {
            SPACE_EVERY
        };
        let disk_guard = if self.state.has_trash() { SPACE_EVERY } else { FOREVER };
        deadline.min(idle).min(drain).min(again).min(disk_guard).min(trim)
    }

    fn is_over(&self) -> bool {
        self.stopping
            .as_ref()
            .is_some_and(|(_, since)| self.driver.is_idle() || since.elapsed() >= DRAIN_LIMIT)
    }

    fn handle(&mut self, batch: &mut Batch, message: Message) {
        match message {
            Message::Command(command, reply, origin) => {
                self.decide(batch, command, Some(reply), &origin);
            }
            Message::Completed(settlement, origin) => {
                self.driver.completed(&settlement.effect());
                // An effect that was stopped for the shutdown is owed again after the next start.
                if self.stopping.is_none() || !driver::is_interruption(&settlement) {
                    self.decide(batch, Command::Settle(settlement), None, &origin);
                }
            }
            Message::Trimmed(prepared) => self.trim(batch, prepared),
            Message::Alive(answer) => drop(answer.send(())),
            Message::Shutdown(reason) => {
                // A second request must not extend the drain limit.
                self.stopping.get_or_insert_with(|| (reason, Instant::now()));
                self.driver.cancel_all();
            }
        }
    }

    /// Decides one command against the state as it will be after this batch. The state is ahead of
    /// the disk here; readers see it only after the commit, and a failed commit ends the process.
    fn decide(&mut self, batch: &mut Batch, command: Command, reply: Option<Reply>, origin: &Span) {
        let now = self.now();
        let span = spans::command(origin, &command, &self.state);
        let _inside = span.enter();
        // Without a reply it is the loop's own, such as a renewal of leases, which a refusal loses.
        let is_asked = reply.is_some();
        let admitted = if is_asked { self.admit(command.demand()) } else { Ok(()) };
        let moment = admitted.and_then(|()| {
            former::moment(&self.reader, &self.state, &batch.forgotten, (now, &command))
        });
        let decided = moment.and_then(|moment| record_size::decide(&self.state, moment, command));
        let changed = decided.map(|events| {
            let changed = !events.is_empty();
            for event in events {
                let record = self.record(now, event);
                self.state.apply(&record);
                if let Event::LivesForgotten(e) = &record.event {
                    batch.forgotten.extend_from_slice(&e.lives);
                }
                batch.lines.push(RecordLine::new(&span, &record, &self.state));
                batch.records.push(record);
            }
            changed
        });
        if let Err(fault) = &changed {
            tracing::debug!(code = fault.code.as_str(), "command refused");
        }
        if let Some(reply) = reply {
            batch.replies.push((reply, changed));
        }
    }

    /// Refuses what this daemon must not begin: new work while it shuts down, and work that uses
    /// space on a full disk.
    fn admit(&mut self, demand: Demand) -> Result<(), Fault> {
        if self.stopping.is_some() && demand != Demand::Record {
            let hint = "start it again with `groundskeeper daemon`";
            let refusal = Fault::new(Code::ShuttingDown, "the daemon is shutting down", hint);
            return Err(refusal.transient());
        }
        if demand == Demand::Space { self.disk_guard.check_space() } else { Ok(()) }
    }

    fn record(&self, at: Time, event: Event) -> Record {
        // The record of a start belongs to the boot that it begins.
        let start = u32::from(matches!(event, Event::DaemonStarted(_)));
        Record { seq: self.state.seq().next(), at, boot: self.state.boot() + start, event }
    }

    /// Commits, publishes, replies, starts owed effects: in this order.
    fn finish(&mut self, batch: Batch) -> Result<(), journal::Error> {
        point("engine.decided");
        if !batch.records.is_empty() {
            // Frees the ballast in time: an append that fails closes the log for good.
            self.disk_guard.before_commit();
            fault::call("append").map_err(unwritten)?;
            match &batch.base {
                None => self.journal.append(&batch.records, &self.state)?,
                Some(base) => {
                    self.journal.trim(&batch.records, &self.state, base)?;
                    self.trimmer.trimmed(base.head().seq);
                }
            }
            point(if batch.base.is_some() { "trim.committed" } else { "engine.committed" });
            if let Some(mark) = &self.high_water {
                mark.note(self.state.seq());
            }
            let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
            for record in &batch.records {
                view.apply(record);
            }
            drop(view);
            // After the view: a subscriber that wakes finds the new records in it.
            self.head.send_replace(self.state.seq());
        }
        let seq = self.state.seq();
        for (reply, result) in batch.replies {
            reply(result.map(|changed| Receipt { seq, changed }));
        }
        point("engine.replied");
        self.looked_at = self.now();
        if self.stopping.is_none() {
            // Last: an effect must not act on a decision that is not durable.
            self.driver.start_owed(&self.state, self.looked_at);
        }
        // After all of it: no client waits for a log that is slow to be written.
        for (record, line) in batch.records.iter().zip(&batch.lines) {
            line.write(record);
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), journal::Error> {
        let reason = self.stopping.take().map_or_else(String::new, |(reason, _)| reason);
        let mut batch = Batch::default();
        self.decide(&mut batch, Command::Stop { reason }, None, &Span::none());
        self.journal.snapshot_next();
        // Still stopping: `finish` must start no effect.
        self.stopping = Some((String::new(), Instant::now()));
        self.finish(batch)?;
        self.journal.checkpoint()
    }

    /// Returns the present time: the wall clock, but never a time behind the last record.
    fn now(&self) -> Time {
        self.anchor.now(self.state.at())
    }
}

/// Converts an injected storage failure of a test.
fn unwritten(source: std::io::Error) -> journal::Error {
    journal::Error::Io { what: "write the log", path: std::path::PathBuf::new(), source }
}
