//! Routes every address of the API to its handler, with body limits, and serves the committed
//! `OpenAPI` document that lists them.

use std::sync::Arc;

use axum::Router;
use axum::routing::{delete, get, post, put};

use crate::api::{
    archives, contents, daemon, environments, leases, live_sets, locks, migrations, processes,
    status, sweep,
};
use crate::http::Error;
use crate::http::body::{self, BODY_BYTES_MAX};
use crate::http::extract::json_text;
use crate::http::problem::Refusal;
use crate::service::App;

/// The `OpenAPI` document of this API: the committed file, as it is.
pub const OPENAPI: &str = include_str!("../../schema/openapi.json");

/// Returns all routes of the API.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/environments", get(environments::list).post(environments::create))
        .route("/v1/environments/{id}", get(environments::show).delete(environments::remove))
        .route("/v1/environments/{id}/cancel", post(environments::cancel))
        .route("/v1/environments/{id}/label", put(environments::label))
        .route("/v1/environments/{id}/leases", post(leases::lease))
        .route("/v1/environments/{id}/restore", post(archives::restore))
        .route("/v1/environments/{id}/processes", get(processes::processes).post(processes::launch))
        .route("/v1/environments/{id}/processes/{pid}", delete(processes::exited))
        .route("/v1/environments/{id}/evidence", get(contents::evidence))
        .route("/v1/environments/{id}/usage", get(contents::usage))
        .merge(crate::api::clean::routes())
        .route("/v1/environments/{id}/run", post(crate::api::run::run))
        .route("/v1/environments/{id}/status", get(status::one))
        .route("/v1/environments/{id}/diff", get(status::diff))
        .route("/v1/status", get(status::all))
        .route("/v1/adopt", post(contents::adopt))
        .route(
            "/v1/reconcile",
            post(live_sets::reconcile).layer(body::limit(live_sets::LIVE_BYTES_MAX)),
        )
        .route("/v1/reconcile/confirm", post(live_sets::confirm))
        .route("/v1/migrations", get(migrations::list).post(migrations::create))
        .route("/v1/migrations/prune", post(migrations::prune))
        .route("/v1/migrations/{id}", get(migrations::show))
        .route("/v1/migrations/{id}/cancel", post(migrations::cancel))
        .route("/v1/migrations/{id}/undo", post(migrations::undo))
        .route("/v1/locks", get(locks::locks))
        .route("/v1/trash", get(archives::trash).delete(archives::empty))
        .route("/v1/rescues", get(archives::rescues))
        .route("/v1/rescues/{id}/{incarnation}", delete(archives::drop_rescue))
        .route("/v1/sweep", post(sweep::sweep))
        .route("/v1/leases/{id}", delete(leases::release))
        .route("/v1/trust", get(crate::api::trust::show).put(crate::api::trust::set))
        .route("/v1/events", get(crate::api::events::events))
        .merge(crate::api::log::routes())
        .route("/v1/daemon", get(daemon::daemon))
        .route("/v1/reload", post(daemon::reload))
        .route("/v1/shutdown", post(daemon::shutdown))
        .route("/v1/openapi.json", get(|| async { json_text(OPENAPI) }))
        .route("/healthz", get(|| async { "ok\n" }))
        .fallback(|| async { Refusal::from(Error::UnknownPath) })
        .method_not_allowed_fallback(|| async { Refusal::from(Error::UnknownMethod) })
        .layer(body::limit(BODY_BYTES_MAX))
        .with_state(app)
}
