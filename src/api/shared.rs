//! The state that every handler receives.

use std::sync::Arc;

use axum::extract::State;

use crate::service::App;

/// State of the daemon, as an extractor.
pub(super) type Shared = State<Arc<App>>;
