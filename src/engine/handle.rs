//! The door to the engine: send a command, read the published state, follow what happens.

use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::{broadcast, oneshot, watch};

use crate::core::{Code, Command, EffectId, EnvironmentId, Fault, Outcome, Seq, State};
use crate::journal::Reader;

/// What a decided command led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The last durable record at the time of the reply; all that the command led to is at or
    /// before it.
    pub seq: Seq,
    /// Whether the command led to any record.
    pub changed: bool,
}

/// How a command is answered.
pub type Reply = Box<dyn FnOnce(Result<Receipt, Fault>) + Send>;

/// What the engine finds in its mailbox.
pub(super) enum Message {
    /// Something to decide.
    Command(Command, Reply),
    /// An effect came home; its slot is free.
    Home(EffectId, Result<Outcome, Fault>),
    /// Come to rest and end.
    Shutdown(String),
}

/// A line that a running hook printed. It is not kept here; the transcript has it.
#[derive(Debug, Clone)]
pub struct Progress {
    /// Whose hook.
    pub environment: EnvironmentId,
    /// The line, without its end.
    pub line: String,
}

/// A clonable way to talk to the engine.
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
            Self::Command(command, _) => f.debug_tuple("Command").field(command).finish(),
            Self::Home(id, _) => f.debug_tuple("Home").field(id).finish(),
            Self::Shutdown(why) => f.debug_tuple("Shutdown").field(why).finish(),
        }
    }
}

impl Handle {
    /// Sends a command and waits for its answer: what it led to is durable then.
    ///
    /// # Errors
    /// The refusal, or that the engine is too busy or gone.
    pub async fn submit(&self, command: Command) -> Result<Receipt, Fault> {
        let (answer, answered) = oneshot::channel();
        let reply: Reply = Box::new(move |result| drop(answer.send(result)));
        self.mailbox.try_send(Message::Command(command, reply)).map_err(|e| refused(&e))?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Like [`Handle::submit`], for callers that are threads.
    ///
    /// # Errors
    /// As for [`Handle::submit`].
    pub fn submit_blocking(&self, command: Command) -> Result<Receipt, Fault> {
        let (answer, answered) = std::sync::mpsc::sync_channel(1);
        let reply: Reply = Box::new(move |result| drop(answer.send(result)));
        self.mailbox.send(Message::Command(command, reply)).map_err(|_| gone())?;
        answered.recv().unwrap_or_else(|_| Err(gone()))
    }

    /// Asks the engine to come to rest and end.
    pub fn shutdown(&self, reason: &str) {
        // A full mailbox is emptied soon; a closed one means that the engine has ended.
        drop(self.mailbox.send(Message::Shutdown(reason.to_owned())));
    }

    /// Reads the published state. It holds everything that was ever acknowledged. Keep `read`
    /// short: copy out what is needed.
    pub fn view<R>(&self, read: impl FnOnce(&State) -> R) -> R {
        read(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A receiver that changes whenever more is committed.
    #[must_use]
    pub fn head(&self) -> watch::Receiver<Seq> {
        self.head.clone()
    }

    /// The output of running hooks from now on; a slow receiver misses lines.
    #[must_use]
    pub fn progress(&self) -> broadcast::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// A reader of committed records.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }
}

fn refused(error: &TrySendError<Message>) -> Fault {
    match error {
        TrySendError::Full(_) => {
            let message = "the daemon has more requests than it can take";
            Fault::new(Code::LimitReached, message, "try again in a moment").transient()
        }
        TrySendError::Disconnected(_) => gone(),
    }
}

fn gone() -> Fault {
    let hint = "start it again; what it acknowledged is in its log";
    Fault::new(Code::ShuttingDown, "the daemon is shutting down", hint).transient()
}
