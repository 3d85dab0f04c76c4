//! Cancellation of a running effect: a flag to check, and a file descriptor to poll.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sync::lock_unpoisoned;
use crate::world::process::error::Error;

/// A request to stop, shared by the driver and one running effect.
#[derive(Debug)]
pub struct Cancel {
    flag: AtomicBool,
    reader: PipeReader,
    writer: Mutex<Option<PipeWriter>>,
}

impl Cancel {
    /// Creates a token that is not set.
    ///
    /// # Errors
    /// When no file descriptor is left.
    pub fn new() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        Ok(Self { flag: AtomicBool::new(false), reader, writer: Mutex::new(Some(writer)) })
    }

    /// Asks the effect to stop. Idempotent.
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Release);
        // Closing the writing end makes the reading end readable for every poll from now on. A byte
        // would be consumed by the first reader.
        drop(lock_unpoisoned(&self.writer).take());
    }

    /// Reports whether the effect was asked to stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.flag.load(Ordering::Acquire)
    }

    /// Returns an error when the effect was asked to stop.
    ///
    /// # Errors
    /// [`Error::Cancelled`] after [`Cancel::cancel`].
    pub fn check(&self) -> Result<(), Error> {
        if self.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Returns a descriptor that becomes readable on cancellation, and stays so.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}
