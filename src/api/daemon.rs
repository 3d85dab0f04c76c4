//! Handlers for the daemon itself: its description and its shutdown.

use std::path::Path;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use crate::api::extract::Shared;
use crate::api::status;
use crate::api::types::DaemonView;
use crate::core::Seq;
use crate::format::rfc3339;

/// What the daemon says of itself.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/daemon",
    responses((status = 200, body = DaemonView)),
))]
pub(super) async fn daemon(State(app): Shared) -> Json<DaemonView> {
    let watching = status::watching(&app);
    let session = app.session.get().map(|standing| standing.borrow().clone());
    let view = app.handle.view(|state| {
        let mut environments = std::collections::BTreeMap::new();
        for e in state.environments() {
            *environments.entry(e.phase.as_str().to_owned()).or_default() += 1;
        }
        let Seq(seq) = state.seq();
        DaemonView {
            log_had: state.found_older().map(|seq| seq.0),
            version: crate::VERSION.to_owned(),
            pid: std::process::id(),
            boot: state.boot(),
            data_dir: show_path(app.layout.root()),
            log_id: app.about.log_id.clone(),
            seq,
            git: app.about.git.clone(),
            started_at: rfc3339(app.about.started),
            environments,
            owed: state.environments().filter(|e| e.owed.is_some()).count(),
            priority: app.about.priority.clone(),
            processes_started: crate::world::process::subprocess::started(),
            watching: watching.clone(),
            session: session.clone(),
        }
    });
    Json(view)
}

pub(super) fn show_path(path: &Path) -> String {
    path.display().to_string()
}

/// Asks the daemon to come to rest and end.
#[cfg_attr(test, utoipa::path(post, path = "/v1/shutdown", responses((status = 202))))]
pub(super) async fn shutdown(State(app): Shared) -> StatusCode {
    app.stopper.send_replace(true);
    StatusCode::ACCEPTED
}
