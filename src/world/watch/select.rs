//! Selects the backend for this system.

use std::sync::Arc;

use crate::world::watch::backend::{Backend, Sink};

/// The backend for this system: our own on Linux, `notify` elsewhere, where it is asked for, and
/// where ours cannot start; its trees then find out one by one what the system has room for.
#[must_use]
pub fn backend(portable: bool, sink: Sink) -> Box<dyn Backend> {
    #[cfg(target_os = "linux")]
    if !portable {
        match crate::world::watch::inotify::Inotify::start(Arc::clone(&sink)) {
            Ok(native) => return Box::new(native),
            Err(e) => tracing::warn!(error = %e, "inotify has no room for us"),
        }
    }
    Box::new(crate::world::watch::portable::Portable::new(sink))
}
