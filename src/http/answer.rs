//! Statuses of answers that are no problem: one table, for HTTP and for a session with a server.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::service::outcome::Outcome;

/// Returns the HTTP status for an outcome.
pub(crate) fn status<T>(outcome: &Outcome<T>) -> StatusCode {
    match outcome {
        Outcome::Done(_) => StatusCode::OK,
        Outcome::Created(_) => StatusCode::CREATED,
        Outcome::Started(_) => StatusCode::ACCEPTED,
        Outcome::Empty => StatusCode::NO_CONTENT,
    }
}

impl<T: Serialize> IntoResponse for Outcome<T> {
    fn into_response(self) -> Response {
        let status = status(&self);
        match self {
            Self::Done(view) | Self::Created(view) | Self::Started(view) => {
                (status, Json(view)).into_response()
            }
            Self::Empty => status.into_response(),
        }
    }
}
