//! Whether `/proc` shows this system's processes and mounts. Only Linux has it, and there it may be
//! unmounted, covered, or that of another namespace.
//!
//! What reads `/proc` asks here first: an empty answer means "no process" only where `/proc` works.
//! All other cases are [`Unseen`], which callers treat as "in use".

use std::io;

use groundskeeper_core::{Code, Fault};

/// `/proc` does not show what was asked for, so it is unknown and not absent.
#[derive(Debug, thiserror::Error)]
#[error("cannot see {what}: {}", reason(source))]
pub struct Unseen {
    what: &'static str,
    source: io::Error,
}

fn reason(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => "this system has no /proc",
        _ => "/proc cannot be read",
    }
}

impl Unseen {
    /// Creates the error for an answer of the system.
    #[must_use]
    pub fn new(what: &'static str, source: io::Error) -> Self {
        Self { what, source }
    }
}

impl From<Unseen> for Fault {
    fn from(error: Unseen) -> Self {
        let hint = if cfg!(target_os = "linux") {
            "mount it with `mount -t proc proc /proc`, then repeat the command"
        } else {
            "use Linux: other systems are not supported for this"
        };
        Self::new(Code::Io, error.to_string(), hint).because(&error.source)
    }
}

/// Returns whether `/proc` shows the processes of this process's own namespace.
///
/// # Errors
/// When there is no `/proc`, it cannot be read, or it is that of another namespace.
pub fn check(what: &'static str) -> Result<(), Unseen> {
    let stat = std::fs::read("/proc/self/stat").map_err(|e| Unseen::new(what, e))?;
    let me = format!("{} ", std::process::id());
    if stat.starts_with(me.as_bytes()) {
        return Ok(());
    }
    Err(Unseen::new(what, io::Error::other("/proc is that of another pid namespace")))
}

/// Returns the mounts of this process, as the text of `/proc/self/mountinfo`.
///
/// # Errors
/// When it cannot be read. There is always at least one mount, so an empty text counts as unread.
pub fn mounts() -> Result<Vec<u8>, Unseen> {
    let text = std::fs::read("/proc/self/mountinfo");
    match text.map_err(|e| Unseen::new("mounts", e))? {
        text if text.is_empty() => {
            Err(Unseen::new("mounts", io::Error::other("/proc lists no mounts")))
        }
        text => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_proc_is_named_with_next_step() {
        let fault = Fault::from(Unseen::new("processes", io::ErrorKind::NotFound.into()));
        assert_eq!(fault.message, "cannot see processes: this system has no /proc");
        assert_eq!((fault.code, fault.transient), (Code::Io, false));
        assert!(!fault.hint.is_empty() && !fault.causes.is_empty());
        let denied = Unseen::new("mounts", io::ErrorKind::PermissionDenied.into());
        assert_eq!(denied.to_string(), "cannot see mounts: /proc cannot be read");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn proc_of_this_system_is_seen() {
        check("processes").expect("it is mounted");
        assert!(!mounts().expect("it is mounted").is_empty());
    }
}
