//! Telling a running effect to stop: a flag to look at, and a file descriptor to poll.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::core::{Code, Fault};

/// A request to stop, shared by the driver and one running effect.
#[derive(Debug)]
pub struct Cancel {
    flag: AtomicBool,
    reader: PipeReader,
    writer: Mutex<Option<PipeWriter>>,
}

impl Cancel {
    /// One that is not set.
    ///
    /// # Errors
    /// When no file descriptor is left.
    pub fn new() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        Ok(Self { flag: AtomicBool::new(false), reader, writer: Mutex::new(Some(writer)) })
    }

    /// Asks the effect to stop. More than once is fine.
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Release);
        // Closing the writing end makes the reading end readable, for every poll from now on.
        drop(self.writer.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Whether the effect was asked to stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.flag.load(Ordering::Acquire)
    }

    /// The fault to come home with when asked to stop.
    ///
    /// # Errors
    /// When asked to stop.
    pub fn check(&self) -> Result<(), Fault> {
        if self.is_cancelled() { Err(Self::fault()) } else { Ok(()) }
    }

    /// Readable once cancelled.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }

    /// What a cancelled effect answers.
    #[must_use]
    pub fn fault() -> Fault {
        Fault::new(Code::Cancelled, "the operation was stopped", "nothing to do").transient()
    }
}
