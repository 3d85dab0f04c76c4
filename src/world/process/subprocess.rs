//! Runs a child process to its end: bounded in time and output, cancellable, never a zombie.
//!
//! Every child leads its own process group, so that it can be ended with everything it started. Its
//! stdin is the environment's lock file: while a child of a dead daemon lives, the lock stays held,
//! and the next daemon's effect for that environment waits for it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use groundskeeper_system::linux_calls::pidfd_open;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::world::process::cancel::Cancel;
use crate::world::process::error::Error;
use crate::world::process::orphans;

/// Time that a child gets to end after TERM, before KILL.
pub const TERM_GRACE: Duration = Duration::from_secs(2);
/// Time for which output is still read after the child itself has ended: a background process of it
/// may hold the pipe for ever.
const DRAIN_LIMIT: Duration = Duration::from_millis(300);

/// The bounds of one run.
#[derive(Debug, Clone, Copy)]
pub struct Bounds<'a> {
    /// Time limit of the run.
    pub time: Duration,
    /// Bound on the bytes of stdout that are kept; more is a fault.
    pub output_bytes: usize,
    /// Token that cancels the run.
    pub cancel: &'a Cancel,
    /// Time that a cancelled child still gets to end by itself; zero ends it at once.
    pub cancel_grace: Duration,
}

/// Result of a child that has ended.
#[derive(Debug)]
pub struct Finished {
    /// Exit status, which may be a failure.
    pub status: ExitStatus,
    /// Complete stdout of the child.
    pub stdout: Vec<u8>,
    /// The last 16 KiB of its stderr.
    pub stderr: Vec<u8>,
}

static STARTED: AtomicU64 = AtomicU64::new(0);

/// Returns how many processes this process has started so far, most of them git's.
pub fn started() -> u64 {
    STARTED.load(Ordering::Relaxed)
}

/// Bound on the stderr that is kept, in bytes.
const STDERR_BYTES_MAX: usize = 16 * 1024;

/// Runs a command to its end.
///
/// # Errors
/// When it cannot start, exceeds its time limit, prints too much, or is cancelled. A failing exit
/// status is not an error here.
pub fn run(
    mut command: Command,
    lock: Option<&File>,
    bounds: Bounds<'_>,
) -> Result<Finished, Error> {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    command.stdin(match lock {
        Some(lock) => {
            let lock = lock.try_clone();
            Stdio::from(lock.map_err(|source| Error::Start { name: name.clone(), source })?)
        }
        None => Stdio::null(),
    });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running::spawn(command, &name)?;
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let status = running.wait(bounds, &mut |stream, bytes| {
        if stream == Stream::Err {
            stderr.extend_from_slice(bytes);
            let excess = stderr.len().saturating_sub(STDERR_BYTES_MAX);
            stderr.drain(..excess);
            return Ok(());
        }
        if stdout.len() + bytes.len() > bounds.output_bytes {
            let (name, limit) = (name.clone(), bounds.output_bytes);
            return Err(Error::OutputTooLarge { name, limit });
        }
        stdout.extend_from_slice(bytes);
        Ok(())
    })?;
    Ok(Finished { status, stdout, stderr })
}

/// Pipe from which bytes came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output of the child.
    Out,
    /// Standard error of the child.
    Err,
}

/// A child that was started and not yet waited for. Dropping it kills its group and reaps it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    name: String,
    reaped: bool,
}

impl Running {
    /// Starts a command in a process group of its own.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(mut command: Command, name: &str) -> Result<Self, Error> {
        use std::os::unix::process::CommandExt as _;
        command.process_group(0);
        let child = orphans::start(|| command.spawn())
            .map_err(|source| Error::Start { name: name.to_owned(), source })?;
        STARTED.fetch_add(1, Ordering::Relaxed);
        Ok(Self { child, name: name.to_owned(), reaped: false })
    }

    /// Returns its process id, which is also the id of its group.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns its pipes, for a caller that talks to it; the child is ended when `self` is dropped.
    #[must_use]
    pub fn take_pipes(&mut self) -> (Option<ChildStdin>, Option<ChildStdout>) {
        (self.child.stdin.take(), self.child.stdout.take())
    }

    /// Reads its pipes and waits for its end. All output is passed to `each`.
    ///
    /// # Errors
    /// When it exceeds its time limit, is cancelled, or `each` fails; the child is dead then.
    pub fn wait(
        &mut self,
        bounds: Bounds<'_>,
        each: &mut dyn FnMut(Stream, &[u8]) -> Result<(), Error>,
    ) -> Result<ExitStatus, Error> {
        let ended = self.read_to_end(bounds, each);
        if ended.is_err() {
            self.end_group();
        }
        ended?;
        if self.failed_already() {
            // Processes that a failed command left in its group must not outlive its failure. The
            // leader is not yet reaped, so the group id cannot belong to another process.
            let _gone = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        }
        self.reap().map_err(|source| wait_error(&self.name, source))
    }

    fn reap(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait();
        orphans::ended(self.child.id());
        self.reaped = true;
        status
    }

    fn read_to_end(
        &mut self,
        bounds: Bounds<'_>,
        each: &mut dyn FnMut(Stream, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let failed = |source| wait_error(&self.name, source);
        let mut until = Instant::now() + bounds.time;
        let pid = Pid::from_child(&self.child);
        // A pidfd becomes readable when this process ends, and can be polled with the pipes.
        let pidfd = pidfd_open(pid).map_err(failed)?;
        let mut out = self.child.stdout.take();
        let mut err = self.child.stderr.take();
        let (mut alive, mut cancelled) = (true, false);
        let mut buffer = vec![0; 64 * 1024];
        while alive || out.is_some() || err.is_some() {
            let ready = Ready::poll(
                [
                    out.as_ref().map(AsFd::as_fd),
                    err.as_ref().map(AsFd::as_fd),
                    alive.then(|| pidfd.as_fd()),
                    (alive && !cancelled).then(|| bounds.cancel.as_fd()),
                ],
                until.saturating_duration_since(Instant::now()),
            );
            let ready = ready.map_err(failed)?;
            if ready.0 == [false; 4] {
                if alive {
                    let (name, limit) = (self.name.clone(), bounds.time);
                    let slow = Error::Timeout { name, limit };
                    return Err(if cancelled { Error::Cancelled } else { slow });
                }
                break;
            }
            if ready.0[3] {
                if bounds.cancel_grace.is_zero() {
                    return Err(Error::Cancelled);
                }
                cancelled = true;
                until = until.min(Instant::now() + bounds.cancel_grace);
            }
            if ready.0[0] && pump(&mut out, &mut buffer, &mut |b| each(Stream::Out, b))? {
                out = None;
            }
            if ready.0[1] && pump(&mut err, &mut buffer, &mut |b| each(Stream::Err, b))? {
                err = None;
            }
            if ready.0[2] {
                alive = false;
                until = Instant::now() + DRAIN_LIMIT;
            }
        }
        Ok(())
    }

    /// Reports whether the child has ended with a failure; it stays a zombie until it is reaped.
    fn failed_already(&self) -> bool {
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        let pid = Pid::from_child(&self.child);
        let how = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        let ended = waitid(WaitId::Pid(pid), how).ok().flatten();
        ended.is_some_and(|status| status.exit_status() != Some(0))
    }

    /// Sends TERM to the group, waits for the grace period, sends KILL, and reaps the child.
    fn end_group(&mut self) {
        let pid = Pid::from_child(&self.child);
        if kill_process_group(pid, Signal::TERM).is_ok() {
            let pidfd = pidfd_open(pid);
            if let Ok(fd) = pidfd {
                let only = [Some(fd.as_fd()), None, None, None];
                drop(Ready::poll(only, TERM_GRACE));
            }
            // Also when the leader has ended: other members may ignore TERM. It is not reaped yet,
            // so the group id is not reused.
            let _gone = kill_process_group(pid, Signal::KILL);
        }
        drop(self.reap());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped {
            self.end_group();
        }
    }
}

struct Ready([bool; 4]);

impl Ready {
    fn poll(fds: [Option<BorrowedFd<'_>>; 4], limit: Duration) -> io::Result<Self> {
        let given: Vec<BorrowedFd<'_>> = fds.iter().flatten().copied().collect();
        let mut seen = poll_all(&given, limit)?.into_iter();
        Ok(Self(fds.map(|fd| fd.is_some() && seen.next() == Some(true))))
    }
}

/// Waits at most `limit` until a descriptor is readable or its process ended; returns which.
///
/// # Errors
/// The error of the system.
pub fn poll_all(fds: &[BorrowedFd<'_>], limit: Duration) -> io::Result<Vec<bool>> {
    let mut polled: Vec<PollFd<'_>> =
        fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    let until = Instant::now() + limit;
    loop {
        // An interrupted poll continues with the remaining time, not with the whole limit.
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        match poll(&mut polled, Some(&timeout)) {
            Ok(_) => return Ok(polled.iter().map(|fd| !fd.revents().is_empty()).collect()),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// A pipe reader that can be cancelled and does not wait for ever.
#[derive(Debug)]
pub struct Patient<'a, R> {
    inner: R,
    cancel: &'a Cancel,
    limit: Duration,
}

impl<'a, R: Read + AsFd> Patient<'a, R> {
    /// Reads from `inner`; a silence longer than `limit` is an error.
    pub fn new(inner: R, cancel: &'a Cancel, limit: Duration) -> Self {
        Self { inner, cancel, limit }
    }
}

impl<R: Read + AsFd> Read for Patient<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let fds = [Some(self.inner.as_fd()), None, None, Some(self.cancel.as_fd())];
        match Ready::poll(fds, self.limit)?.0 {
            // Not `Interrupted`: readers take that as a reason to retry.
            [_, _, _, true] => Err(io::Error::other("cancelled")),
            [false, ..] => Err(io::ErrorKind::TimedOut.into()),
            _ => self.inner.read(buffer),
        }
    }
}

/// Reads once; returns true at the end of the stream.
fn pump(
    stream: &mut Option<impl Read>,
    buffer: &mut [u8],
    each: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
) -> Result<bool, Error> {
    let Some(stream) = stream else { return Ok(true) };
    match stream.read(buffer) {
        Ok(0) => Ok(true),
        Ok(n) => each(&buffer[..n]).map(|()| false),
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(false),
        Err(_) => Ok(true),
    }
}

/// Returns both ends of a socket pair, one of which a child can hold as a standard stream.
///
/// # Errors
/// When no file descriptor is left.
pub fn gate() -> io::Result<(std::os::unix::net::UnixStream, OwnedFd)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    Ok((ours, OwnedFd::from(theirs)))
}

fn wait_error(name: &str, source: io::Error) -> Error {
    Error::Wait { name: name.to_owned(), source }
}
