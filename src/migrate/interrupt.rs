//! Runs work on a database in a thread of its own, so that it ends at a time limit and when a stop
//! is requested, also in the middle of one long statement.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use rusqlite::InterruptHandle;

/// Interval of the checks for a stop request. A stop is answered within a second.
const INTERVAL: Duration = Duration::from_millis(100);

/// Reason why work was interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interrupted {
    /// A stop was requested.
    Cancelled,
    /// The time limit passed.
    Expired,
}

/// Runs `work` on the database of `handle`, and `meanwhile` in the calling thread. Returns both
/// results, and why the work was interrupted, if it was.
///
/// `work` checks the flag between two statements: SQLite ignores an interrupt while no statement
/// runs.
pub(super) fn run<T: Send, M>(
    handle: &InterruptHandle,
    limit: Duration,
    cancelled: &dyn Fn() -> bool,
    work: impl FnOnce(&AtomicBool) -> T + Send,
    meanwhile: impl FnOnce() -> M,
) -> (T, M, Option<Interrupted>) {
    let (stop, started, mut why) = (AtomicBool::new(false), Instant::now(), None);
    let (sender, ended) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let stop = &stop;
        let thread = scope.spawn(move || {
            // Dropped at the end, also of a panic, which ends the wait below.
            let _sender = sender;
            work(stop)
        });
        let other = meanwhile();
        while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
            why = why.or_else(|| match (cancelled(), started.elapsed() > limit) {
                (true, _) => Some(Interrupted::Cancelled),
                (false, true) => Some(Interrupted::Expired),
                (false, false) => None,
            });
            if why.is_some() {
                stop.store(true, Ordering::Relaxed);
                // Each time: it may have come between two statements.
                handle.interrupt();
            }
        }
        match thread.join() {
            Ok(done) => (done, other, why),
            // The step of the migration turns it into a fault.
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    const ENDLESS: &str = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
                           SELECT count(*) FROM n";

    /// The stop is requested while one statement runs, and while `meanwhile` is over.
    #[test]
    fn running_statement_is_interrupted() {
        for (limit, wanted) in [
            (Duration::MAX, Interrupted::Cancelled),
            (Duration::from_millis(10), Interrupted::Expired),
        ] {
            let database = Connection::open_in_memory().expect("opened");
            let (handle, started) = (database.get_interrupt_handle(), Instant::now());
            let cancelled = || wanted == Interrupted::Cancelled;
            let endless = move |_: &AtomicBool| database.execute_batch(ENDLESS);
            let (result, other, why) = run(&handle, limit, &cancelled, endless, || 7);
            let code = result.expect_err("interrupted").sqlite_error_code();
            assert_eq!(code, Some(rusqlite::ErrorCode::OperationInterrupted));
            assert_eq!((other, why), (7, Some(wanted)));
            assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        }
    }

    #[test]
    fn panic_of_work_is_passed_on() {
        let database = Connection::open_in_memory().expect("opened");
        let handle = database.get_interrupt_handle();
        let panicking = || {
            run(&handle, Duration::MAX, &|| false, |_| panic!("on purpose"), || ());
        };
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(panicking));
        assert!(caught.is_err(), "it is not lost");
    }
}
