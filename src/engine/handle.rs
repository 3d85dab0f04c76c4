//! The handle to the engine: sends commands, reads the published state, subscribes to changes.

use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::{broadcast, oneshot, watch};
use tracing::Span;

use crate::core::{Code, Command, EnvironmentId, Fault, Seq, Settlement, State};
use crate::engine::log_trim::Prepared;
use crate::journal::Reader;

/// Result of a command that was decided and committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The last durable record at the time of the reply; no record of the command is later.
    pub seq: Seq,
    /// Whether the command produced any record.
    pub changed: bool,
}

/// Callback that receives the result of a command, on the engine's thread.
pub type Reply = Box<dyn FnOnce(Result<Receipt, Fault>) + Send>;

/// A message in the engine's mailbox.
pub(super) enum Message {
    /// A command to decide, the callback for its result, and the span in which it was sent.
    Command(Command, Reply, Span),
    /// An effect has ended in its span; its slot is free.
    Completed(Settlement, Span),
    /// The preparation of a trim has ended.
    Trimmed(Prepared),
    /// A question whether the loop still runs.
    Alive(oneshot::Sender<()>),
    /// A request to stop: cancel effects, record the reason, end the loop.
    Shutdown(String),
}

/// One line of output of a running hook. It is not kept here; the transcript has it.
#[derive(Debug, Clone)]
pub struct Progress {
    /// The environment whose hook printed the line.
    pub environment: EnvironmentId,
    /// The line, without its line end.
    pub line: String,
}

/// Access to the engine. Clones are cheap and share one mailbox.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(super) mailbox: SyncSender<Message>,
    pub(super) view: Arc<RwLock<State>>,
    pub(super) head: watch::Receiver<Seq>,
    pub(super) progress: broadcast::Sender<Progress>,
    pub(super) reader: Reader,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Command(command, ..) => f.debug_tuple("Command").field(command).finish(),
            Self::Completed(settlement, _) => {
                f.debug_tuple("Home").field(&settlement.effect()).finish()
            }
            Self::Trimmed(prepared) => f.debug_tuple("Trimmed").field(prepared).finish(),
            Self::Alive(_) => f.write_str("Alive"),
            Self::Shutdown(why) => f.debug_tuple("Shutdown").field(why).finish(),
        }
    }
}

impl Message {
    /// Returns whether a log that is idle is not so any more.
    pub(super) const fn is_work(&self) -> bool {
        !matches!(self, Self::Alive(_))
    }
}

impl Handle {
    /// Sends a command and waits for its result, which is durable by then.
    ///
    /// # Errors
    /// The refusal of the command, a full mailbox, or an engine that has ended.
    pub async fn submit(&self, command: Command) -> Result<Receipt, Fault> {
        let (answer, answered) = oneshot::channel();
        let reply: Reply = Box::new(move |result| drop(answer.send(result)));
        // An async task must not block on a full mailbox.
        let message = Message::Command(command, reply, Span::current());
        self.mailbox.try_send(message).map_err(|e| mailbox_error(&e))?;
        answered.await.unwrap_or_else(|_| Err(engine_ended()))
    }

    /// Like [`Handle::submit`], for callers on threads; waits while the mailbox is full.
    ///
    /// # Errors
    /// The refusal of the command, or an engine that has ended.
    pub fn submit_blocking(&self, command: Command) -> Result<Receipt, Fault> {
        let (answer, answered) = std::sync::mpsc::sync_channel(1);
        let reply: Reply = Box::new(move |result| drop(answer.send(result)));
        let message = Message::Command(command, reply, Span::current());
        self.mailbox.send(message).map_err(|_| engine_ended())?;
        answered.recv().unwrap_or_else(|_| Err(engine_ended()))
    }

    /// Waits until the engine has taken a message, and returns whether it has; false for a mailbox
    /// that is full at the moment.
    ///
    /// # Errors
    /// When the engine has ended.
    pub async fn answers(&self) -> Result<bool, Fault> {
        let (answer, answered) = oneshot::channel();
        match self.mailbox.try_send(Message::Alive(answer)) {
            Ok(()) => answered.await.map(|()| true).map_err(|_| engine_ended()),
            Err(TrySendError::Full(_)) => Ok(false),
            Err(TrySendError::Disconnected(_)) => Err(engine_ended()),
        }
    }

    /// Asks the engine to stop. Does not wait for its end.
    pub fn shutdown(&self, reason: &str) {
        // A full mailbox drains soon; a closed one means that the engine has ended.
        drop(self.mailbox.send(Message::Shutdown(reason.to_owned())));
    }

    /// Calls `read` with the published state, which holds everything that was ever acknowledged.
    /// Keep `read` short and copy out what is needed: the engine takes this lock after each commit.
    pub fn view<R>(&self, read: impl FnOnce(&State) -> R) -> R {
        read(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns a receiver of the last committed seq; it changes with every commit.
    #[must_use]
    pub fn head(&self) -> watch::Receiver<Seq> {
        self.head.clone()
    }

    /// Subscribes to the output of running hooks from now on; a slow receiver misses lines.
    #[must_use]
    pub fn progress(&self) -> broadcast::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Returns the reader of committed records.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }
}

fn mailbox_error(error: &TrySendError<Message>) -> Fault {
    match error {
        TrySendError::Full(_) => {
            let message = "the request queue of the daemon is full";
            Fault::new(Code::LimitReached, message, "retry after a few seconds").transient()
        }
        TrySendError::Disconnected(_) => engine_ended(),
    }
}

fn engine_ended() -> Fault {
    let hint = "start it again with `groundskeeper daemon`; acknowledged requests are in its log";
    Fault::new(Code::ShuttingDown, "the daemon is shutting down", hint).transient()
}
