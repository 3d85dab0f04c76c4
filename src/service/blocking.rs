//! Runs work that may block on a thread of its own. It never runs such work on a thread that serves
//! requests.

use crate::core::{Code, Fault};

/// Runs work on a thread that may block, and waits for its end.
///
/// # Errors
/// The fault of the work; `Code::Defect` if it panicked.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| {
        Err(Fault::new(Code::Defect, "a task of the API panicked", "please report this").because(e))
    })
}
