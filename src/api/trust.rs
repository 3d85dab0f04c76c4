//! Handlers that show and change which hooks the user trusts: by content hash, per repository.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};

use super::problem::invalid;
use super::types::{TrustRequest, TrustView};
use crate::api::app::{App, blocking, discover};
use crate::api::extract::{Answer, Body, Params, Shared};
use crate::core::event::{Actor, RepositoryDistrusted, RepositoryTrusted};
use crate::core::{Command, Fault, HostPath};
use crate::world::effects::hook;
use crate::world::fs::paths;

/// What is trusted in a repository, and the hook it has now.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/trust",
    params(("repo" = String, Query, description = "a directory in it")),
    responses((status = 200, body = TrustView), super::document::Failure),
))]
pub(super) async fn show(
    State(app): Shared,
    Params(query): Params<TrustRequest>,
) -> Answer<Json<TrustView>> {
    Ok(Json(view(&app, &query.repo).await?))
}

async fn view(app: &Arc<App>, repo: &str) -> Result<TrustView, Fault> {
    let repository = discover(app, repo).await?;
    let source = paths::from_host(&repository.source);
    let hook = source.join(&app.config.setup_path);
    let found = !source.as_os_str().is_empty() && hook.symlink_metadata().is_ok();
    let shown = found.then(|| hook.display().to_string());
    let hash = if found { Some(blocking(move || hook::hash(&hook)).await?) } else { None };
    let common: HostPath = repository.common_dir;
    let trusted = app.handle.view(|state| state.trusted(&common).to_vec());
    Ok(TrustView { repo: common.to_string(), trusted, hook: shown, hash })
}

/// Trusts the hook with the given hash, or takes all trust back.
#[cfg_attr(test, utoipa::path(
    put,
    path = "/v1/trust",
    request_body = TrustRequest,
    responses((status = 200, body = TrustView), super::document::Failure),
))]
pub(super) async fn set(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    Body(wanted): Body<TrustRequest>,
) -> Answer<Json<TrustView>> {
    let repository = discover(&app, &wanted.repo).await?.common_dir;
    let command = match wanted.hash {
        Some(hash) if hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => {
            Command::Trust(RepositoryTrusted { repository, hash: hash.to_ascii_lowercase(), actor })
        }
        Some(_) => return Err(invalid("hash is not a SHA-256 in hex").into()),
        None => Command::Distrust(RepositoryDistrusted { repository, actor }),
    };
    app.handle.submit(command).await?;
    Ok(Json(view(&app, &wanted.repo).await?))
}
