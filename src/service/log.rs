//! Copies the log itself: its stored records, and the hash of the state they fold to.
//!
//! `journal::stream_format` describes the flat form. A copy ends at the record that was the last
//! one at the time of the request, so it is consistent, however long it takes. Nothing is decoded
//! or decided here.

use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use crate::core::{Fault, Seq};
use crate::engine::Handle;
use crate::engine::log_stream::Part;
use crate::format::hex;
use crate::service::app::App;
use crate::service::streams::{READER_LIMIT, permit};
use crate::service::types::log::StateView;

/// Records per read of the log.
const BATCH: usize = 512;
/// Capacity of the queue of parts that the client has not read yet.
const PARTS: usize = 4;

/// Starts a copy of the records after `since`; with `follow` it has no end. It ends early when its
/// receiver is dropped.
///
/// # Errors
/// `Code::LimitReached` if too many streams are open.
pub(crate) fn copy(app: &App, since: Seq, follow: bool) -> Result<mpsc::Receiver<Vec<u8>>, Fault> {
    let permit = permit(app)?;
    let (sender, receiver) = mpsc::channel(PARTS);
    let copying = LogStream {
        reader: app.handle.clone(),
        head: app.handle.head(),
        stop: app.stop.clone(),
        sender,
        _permit: permit,
    };
    tokio::spawn(copying.run(since, follow));
    Ok(receiver)
}

/// Returns the hash of the state. A fold of the log up to the same record has the same hash.
///
/// # Errors
/// If the state cannot be encoded.
pub(crate) fn digest(app: &App) -> Result<StateView, Fault> {
    let (Seq(seq), sha256) = app.handle.digest()?;
    let log_id = app.about.log_id.clone();
    Ok(StateView { seq, sha256: hex(&sha256), log_id })
}

struct LogStream {
    reader: Handle,
    head: watch::Receiver<Seq>,
    stop: watch::Receiver<bool>,
    sender: mpsc::Sender<Vec<u8>>,
    _permit: OwnedSemaphorePermit,
}

impl LogStream {
    /// Sends the copy. A copy that breaks off lacks the end mark, so its reader can detect that.
    async fn run(mut self, since: Seq, follow: bool) {
        let goal = if follow { Seq(u64::MAX) } else { *self.head.borrow_and_update() };
        let reader = self.reader.clone();
        let begun = tokio::task::spawn_blocking(move || reader.flat_start(since));
        let (head, last, has_base) = match begun.await {
            Ok(Ok(begun)) => begun,
            Ok(Err(e)) => return tracing::error!(error = %e, "cannot read the log for a copy"),
            Err(_) => return,
        };
        let mut part = Part { last, ..Part::default() };
        if !self.enqueue(head).await || has_base && !self.send_lives().await {
            return;
        }
        loop {
            let (reader, after) = (self.reader.clone(), part.last);
            let read = tokio::task::spawn_blocking(move || reader.flat_part(after, goal, BATCH));
            part = match read.await {
                Ok(Ok(part)) => part,
                Ok(Err(e)) => {
                    return tracing::error!(error = %e, "cannot read the log for a copy of it");
                }
                Err(_) => return,
            };
            let (records, last) = (part.records, part.last);
            if records > 0 && !self.enqueue(std::mem::take(&mut part.bytes)).await {
                return;
            }
            // Only an empty read proves the end of the copy.
            if records > 0 {
                continue;
            }
            if !follow {
                self.enqueue(Handle::flat_end(last)).await;
                return;
            }
            if !self.wait(Seq(last.seq)).await {
                return;
            }
        }
    }

    /// Sends the lives that the state has forgotten. Returns false when the stream must end.
    async fn send_lives(&self) -> bool {
        let mut after = String::new();
        loop {
            let reader = self.reader.clone();
            let read = tokio::task::spawn_blocking(move || reader.flat_lives(&after)).await;
            let bytes = match read {
                Ok(Ok(Some((bytes, last)))) => {
                    after = last;
                    bytes
                }
                Ok(Ok(None)) => return true,
                Ok(Err(e)) => {
                    tracing::error!(error = %e, "cannot read the lives for a copy of the log");
                    return false;
                }
                Err(_) => return false,
            };
            if !self.enqueue(bytes).await {
                return false;
            }
        }
    }

    /// Waits for a record after `after`. Returns false when the stream must end.
    async fn wait(&mut self, after: Seq) -> bool {
        tokio::select! {
            moved = self.head.wait_for(|head| *head > after) => moved.is_ok(),
            _ = self.stop.wait_for(|stop| *stop) => false,
            () = self.sender.closed() => false,
        }
    }

    /// Queues bytes for the client. Returns false if the client has disconnected or has read
    /// nothing for [`READER_LIMIT`].
    async fn enqueue(&self, bytes: Vec<u8>) -> bool {
        let sent = tokio::time::timeout(READER_LIMIT, self.sender.send(bytes)).await;
        sent.is_ok_and(|sent| sent.is_ok())
    }
}
