//! Extractors for path, query, body and headers of a request. A part that does not parse is
//! answered with a problem document of this API, not with axum's text.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::Path as UrlPath;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::IntoResponse as _;
use axum::response::Response;
use serde::de::DeserializeOwned;

use crate::core::RequestId;
use crate::http::body::{self, BodyLimit};
use crate::http::error::Error;
use crate::http::problem::Refusal;
pub(crate) use crate::service::requests::environment_id;

/// Timeout for a client to send a request body.
pub(crate) const BODY_LIMIT: Duration = Duration::from_secs(10);

pub(crate) type Answer<T> = Result<T, Refusal>;

pub(crate) fn json_text(text: &'static str) -> Response {
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// Query parameters; a parse error is a [`Refusal`].
pub struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        without_nul(parts.uri.query().unwrap_or_default())?;
        let query = Query::from_request_parts(parts, state).await;
        let Query(value) = query.map_err(Error::InvalidQuery)?;
        Ok(Self(value))
    }
}

/// The parameters in the path, one text or several; a parse error is a [`Refusal`].
pub struct Named<T = String>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        without_nul(parts.uri.path())?;
        let path = UrlPath::from_request_parts(parts, state).await;
        let UrlPath(names) = path.map_err(Error::InvalidPath)?;
        Ok(Self(names))
    }
}

/// Refuses a NUL character, which no path, name or argument of the system can hold.
fn without_nul(encoded: &str) -> Result<(), Error> {
    if encoded.contains("%00") { Err(Error::Nul) } else { Ok(()) }
}

/// A JSON body; a parse error, an oversized body or a timeout is a [`Refusal`].
pub struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(mut request: Request, state: &S) -> Result<Self, Refusal> {
        let BodyLimit(limit) = request.extensions().get().copied().unwrap_or_default();
        // The same number bounds the body and stands in the refusal.
        DefaultBodyLimit::max(limit).apply(&mut request);
        let read = tokio::time::timeout(BODY_LIMIT, Bytes::from_request(request, state)).await;
        let read = read.map_err(|_| Error::BodyTimeout { limit: BODY_LIMIT })?;
        let bytes = read.map_err(|rejection| Error::of_body(limit, rejection))?;
        Ok(Self(body::parse(&bytes)?))
    }
}

pub(crate) fn request_id(headers: &HeaderMap) -> Result<Option<RequestId>, Error> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = value.to_str().map_err(|_| Error::KeyNotAscii)?;
    RequestId::parse(text).map(Some).map_err(Error::InvalidKey)
}
