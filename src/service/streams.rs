//! Bounds of the streams of events and of the log.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use crate::core::{Code, Fault};
use crate::service::app::App;

/// Limit of concurrent streams of events and of the log together.
pub const STREAMS_MAX: usize = 128;
/// Timeout after which the stream of a client that reads nothing is closed.
pub(crate) const READER_LIMIT: Duration = Duration::from_secs(60);

/// Takes the permit of one stream.
///
/// # Errors
/// `Code::LimitReached` if none is left.
pub(crate) fn permit(app: &App) -> Result<OwnedSemaphorePermit, Fault> {
    Arc::clone(&app.streams).try_acquire_owned().map_err(|_| {
        let message = format!("{STREAMS_MAX} event streams are open");
        Fault::new(Code::LimitReached, message, "close another stream first")
    })
}
