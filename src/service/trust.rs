//! Use cases that show and change which hooks the user trusts: by content hash, per repository.

use std::sync::Arc;

use crate::core::event::{Actor, RepositoryDistrusted, RepositoryTrusted};
use crate::core::{Command, Fault, HostPath};
use crate::service::app::{App, discover};
use crate::service::blocking::blocking;
use crate::service::requests::invalid;
use crate::service::types::trust::{TrustRequest, TrustView};
use crate::world::effects::hook;
use crate::world::fs::paths;

/// Returns the trusted hashes of a repository, and the hook that its worktree has now.
///
/// # Errors
/// If the path is in no repository, or the hook cannot be read.
pub(crate) async fn show(app: &Arc<App>, repo: &str) -> Result<TrustView, Fault> {
    let repository = discover(app, repo).await?;
    let hook = repository.source.as_ref().map(|s| paths::borrowed(s).join(&app.config.setup_path));
    let hook = hook.filter(|hook| hook.symlink_metadata().is_ok());
    let shown = hook.as_ref().map(|hook| hook.display().to_string());
    let hash = match hook {
        Some(hook) => Some(blocking(move || hook::hash(&hook)).await?),
        None => None,
    };
    let common: HostPath = repository.common_dir;
    let trusted = app.handle.view(|state| state.trusted(&common).to_vec());
    Ok(TrustView { repo: common.to_string(), trusted, hook: shown, hash })
}

/// Trusts the hook with the given hash, or without one withdraws all trust.
///
/// # Errors
/// If the path is in no repository, or the hash is not a SHA-256 in hex.
pub(crate) async fn set(
    app: &Arc<App>,
    actor: Actor,
    wanted: TrustRequest,
) -> Result<TrustView, Fault> {
    let repository = discover(app, &wanted.repo).await?.common_dir;
    let command = match wanted.hash {
        Some(hash) if hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => {
            Command::Trust(RepositoryTrusted { repository, hash: hash.to_ascii_lowercase(), actor })
        }
        Some(_) => return Err(invalid("hash is not a SHA-256 in hex")),
        None => Command::Distrust(RepositoryDistrusted { repository, actor }),
    };
    app.handle.submit(command).await?;
    show(app, &wanted.repo).await
}
