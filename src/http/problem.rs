//! Converts faults to HTTP answers: `application/problem+json` with a status for each kind of
//! fault.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::core::{Code, Fault, Kind};
use crate::http::error::Error;
pub use crate::service::requests::invalid;
use crate::service::types::problem::Problem;

/// A fault that a handler returns to the client as its answer.
#[derive(Debug)]
pub struct Refusal(pub Fault);

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self(fault)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self(error.into())
    }
}

/// Returns the HTTP status for a code: a specific one where HTTP has it, else that of its class.
#[must_use]
pub fn status(code: Code) -> StatusCode {
    match code {
        Code::EnvironmentDestroyed | Code::LeaseEnded | Code::ThreadEnded => StatusCode::GONE,
        Code::Unauthorized => StatusCode::UNAUTHORIZED,
        Code::HostUnavailable => StatusCode::BAD_GATEWAY,
        Code::RequestTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Code::IdempotencyConflict => StatusCode::UNPROCESSABLE_ENTITY,
        // It cannot be reached by the server that answers; no daemon says this of itself.
        Code::DaemonUnreachable => StatusCode::BAD_GATEWAY,
        Code::LimitReached => StatusCode::TOO_MANY_REQUESTS,
        Code::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
        Code::Timeout => StatusCode::GATEWAY_TIMEOUT,
        Code::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        _ => match code.kind() {
            Kind::Refused | Kind::Busy => StatusCode::CONFLICT,
            Kind::Fault => StatusCode::INTERNAL_SERVER_ERROR,
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::Usage => StatusCode::BAD_REQUEST,
        },
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = status(self.0.code);
        let problem = Problem { status: status.as_u16(), ..Problem::of(&self.0) };
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let kind = HeaderValue::from_static("application/problem+json");
        (status, [(header::CONTENT_TYPE, kind)], body).into_response()
    }
}
