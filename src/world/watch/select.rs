//! Selects the watch backend for this system.

use crate::world::watch::backend::{Backend, Sink};

/// Creates the backend: inotify on Linux; `notify` elsewhere, on request, and when the thread that
/// reads inotify cannot start. Neither holds an instance before a tree needs one.
#[must_use]
pub fn backend(portable: bool, sink: Sink) -> Box<dyn Backend> {
    #[cfg(target_os = "linux")]
    if !portable {
        match crate::world::watch::inotify::Inotify::start(std::sync::Arc::clone(&sink)) {
            Ok(native) => return Box::new(native),
            Err(e) => tracing::warn!(error = %e, "cannot start inotify; using notify"),
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = portable;
    Box::new(crate::world::watch::portable::Portable::new(sink))
}
