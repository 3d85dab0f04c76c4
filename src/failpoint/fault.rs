//! Named calls to the outside that a test can make fail or slow, and a clock that it can shift.
//!
//! `GROUNDSKEEPER_FAULT=rename:EBUSY:3,append:20ms:1` makes every third rename fail with EBUSY and
//! every append take 20 ms longer. `GROUNDSKEEPER_CLOCK_FILE=file` adds the seconds in the file to
//! the wall clock of the log; they may be negative and may change. Both exist in builds with debug
//! assertions or the feature `faults`; in a release they do not exist and cost nothing. Nothing
//! here knows the purpose of a call.

use std::io;

/// Names of the calls that can be made to fail, each with its meaning.
pub const CALLS: &[(&str, &str)] = &[
    ("rename", "a worktree, a registration or a database is renamed"),
    ("remove", "a managed file or directory is removed"),
    ("unlink", "one entry of a trash entry's tree is unlinked"),
    ("append", "the log is written"),
    ("checkpoint", "an idle log is made ready for a fast open"),
    ("sync", "a file or a directory of a migration is made durable"),
    ("link", "a hard link to a database is made"),
    ("write", "a small file of a migration is written"),
    ("make", "a directory of a migration is made"),
    ("inotify", "an inotify instance is made"),
];

/// Fails or delays the call that follows, if a rule says so; otherwise returns at once.
///
/// # Errors
/// The error of the rule, in place of the call's own.
#[inline]
pub fn call(name: &'static str) -> io::Result<()> {
    #[cfg(any(debug_assertions, feature = "faults"))]
    return armed::call(name);
    #[cfg(not(any(debug_assertions, feature = "faults")))]
    {
        let _ = name;
        Ok(())
    }
}

/// Returns the nanoseconds that are added to the wall clock of the log; 0 without a clock file.
#[inline]
pub fn clock_offset_ns() -> i64 {
    #[cfg(any(debug_assertions, feature = "faults"))]
    return armed::clock_offset_ns();
    #[cfg(not(any(debug_assertions, feature = "faults")))]
    0
}

#[cfg(any(debug_assertions, feature = "faults"))]
mod armed {
    use std::io;
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    enum Schedule {
        Fails(i32),
        Takes(Duration),
    }

    struct Rule {
        call: String,
        schedule: Schedule,
        every: u64,
        count: AtomicU64,
    }

    const ERRORS: [(&str, i32); 8] = [
        ("EPERM", 1),
        ("EIO", 5),
        ("EACCES", 13),
        ("EBUSY", 16),
        ("EMFILE", 24),
        ("ENOSPC", 28),
        ("EROFS", 30),
        ("ENOTEMPTY", 39),
    ];

    fn rule(text: &str) -> Option<Rule> {
        let mut parts = text.split(':');
        let (call, schedule, every) = (parts.next()?, parts.next()?, parts.next()?);
        let schedule = match schedule.strip_suffix("ms").and_then(|n| n.parse().ok()) {
            Some(ms) => Schedule::Takes(Duration::from_millis(ms)),
            None => Schedule::Fails(ERRORS.iter().find(|(name, _)| *name == schedule)?.1),
        };
        let every = every.parse().ok().filter(|n| *n > 0)?;
        Some(Rule { call: call.to_owned(), schedule, every, count: AtomicU64::new(0) })
    }

    fn rules() -> &'static [Rule] {
        static RULES: OnceLock<Vec<Rule>> = OnceLock::new();
        RULES.get_or_init(|| {
            let text = std::env::var("GROUNDSKEEPER_FAULT").unwrap_or_default();
            let parts = text.split(',').filter(|part| !part.is_empty());
            parts
                .map(|part| rule(part).unwrap_or_else(|| panic!("{part} is not call:how:every")))
                .collect()
        })
    }

    #[expect(clippy::disallowed_methods, reason = "a slow disk is nothing but time")]
    pub(crate) fn call(name: &'static str) -> io::Result<()> {
        assert!(super::CALLS.iter().any(|(known, _)| *known == name), "{name} is not in the list");
        for rule in rules().iter().filter(|rule| rule.call == name) {
            if (rule.count.fetch_add(1, Ordering::Relaxed) + 1) % rule.every == 0 {
                match rule.schedule {
                    Schedule::Fails(errno) => return Err(io::Error::from_raw_os_error(errno)),
                    Schedule::Takes(time) => std::thread::sleep(time),
                }
            }
        }
        Ok(())
    }

    pub(crate) fn clock_offset_ns() -> i64 {
        static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
        let file =
            FILE.get_or_init(|| std::env::var_os("GROUNDSKEEPER_CLOCK_FILE").map(Into::into));
        let Some(file) = file else { return 0 };
        // Read at every call, so that a test can move the clock of a running daemon.
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.trim().parse::<i64>().unwrap_or(0).saturating_mul(1_000_000_000)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn fault_rules_parse_call_and_frequency() {
            let found = rule("rename:EBUSY:3").expect("a rule");
            assert!(matches!(found.schedule, Schedule::Fails(16)) && found.every == 3);
            let found = rule("append:20ms:1").expect("a rule");
            assert!(matches!(found.schedule, Schedule::Takes(t) if t == Duration::from_millis(20)));
            for bad in ["", "rename", "rename:EBUSY", "rename:EWHAT:1", "rename:EBUSY:0"] {
                assert!(rule(bad).is_none(), "{bad}");
            }
        }
    }
}
