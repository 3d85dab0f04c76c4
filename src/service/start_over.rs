//! A daemon that starts over, without the log that its data directory had: it adopts the worktrees
//! that are there, so that they are served and never removed. Touches no file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::core::event::Actor;
use crate::core::policy::ENVIRONMENTS_MAX;
use crate::core::{EnvironmentId, Fault};
use crate::service::app::App;
use crate::service::contents;
use crate::service::types::contents::Adoption;
use crate::world::git::marker::{self, Marker};

/// Adopts every worktree in the managed root under the name of its environment. Logs each one, and
/// why another one could not be adopted.
pub(crate) async fn adopt_worktrees(app: &Arc<App>) {
    let root = app.layout.worktrees();
    let found = worktrees(&root);
    if found.len() >= ENVIRONMENTS_MAX {
        tracing::warn!(root = %root.display(), "too many worktrees; some are not adopted");
    }
    for (id, path) in found {
        match adopt(app, &id, &path).await {
            Ok(()) => tracing::info!(environment = %id, path = %path.display(), "adopted"),
            Err(fault) => tracing::warn!(path = %path.display(), %fault, "not adopted"),
        }
    }
}

async fn adopt(app: &Arc<App>, id: &EnvironmentId, path: &Path) -> Result<(), Fault> {
    let path = path.to_string_lossy().into_owned();
    let wanted = Adoption { path, id: Some(id.to_string()) };
    contents::adopt_if(app, Actor::daemon(), wanted, is_left).await.map(drop)
}

/// Returns whether a marker is of the very directory that lies in the managed root: a log that is
/// lost had made it there. In a copy of a data directory it names the original. What this log made
/// is never adopted.
fn is_left(app: &App, marker: &Marker, path: &Path) -> bool {
    let id = marker::identity(path).ok().flatten();
    let is_named = id.is_some_and(|id| (id.device, id.inode) == (marker.device, marker.inode));
    let is_of_another = marker.log != app.world.log_id();
    is_named && is_of_another && path.starts_with(app.layout.worktrees())
}

/// Returns the worktrees below the managed root, with the names of their environments.
fn worktrees(root: &Path) -> Vec<(EnvironmentId, PathBuf)> {
    let list = |path: &Path| {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        paths
    };
    let mut found = Vec::new();
    for place in list(root) {
        let name = place.file_name().map(|name| name.to_string_lossy().into_owned());
        let Some(Ok(id)) = name.map(|name| EnvironmentId::parse(&name)) else { continue };
        let inside = list(&place).into_iter().filter(|path| path.join(".git").is_file());
        found.extend(inside.map(|path| (id.clone(), path)));
    }
    found.truncate(ENVIRONMENTS_MAX);
    found
}
