//! `trust`: shows and changes which hooks of a repository may run.

use std::path::Path;

use hyper::Method;

use crate::api::types::{TrustRequest, TrustView};
use crate::cli::args::Global;
use crate::cli::client::Client;
use crate::cli::output::{CommandResult, NOTHING, encode, show_one};
use crate::cli::render;
use crate::world::fs::paths;

pub(in crate::cli) async fn trust(
    global: &Global,
    repo: &Path,
    named: Option<String>,
    show: bool,
    revoke: bool,
) -> CommandResult {
    let real = repo.canonicalize().map_err(|e| paths::fault("find", repo, &e))?;
    let repo = real.to_string_lossy().into_owned();
    let mut client = Client::connect(global).await?;
    let path = format!("/v1/trust?repo={}", encode(&repo));
    let mut view: TrustView = client.call(Method::GET, &path, NOTHING).await?;
    if revoke {
        let wanted = TrustRequest { repo, hash: None };
        view = client.call(Method::PUT, "/v1/trust", Some(&wanted)).await?;
        return show_one(global, &view, "no hook of this repository is trusted any more\n");
    }
    if let Some(hash) = named {
        let text = format!("hooks with sha256 {hash} are trusted\n");
        let wanted = TrustRequest { repo, hash: Some(hash) };
        view = client.call(Method::PUT, "/v1/trust", Some(&wanted)).await?;
        return show_one(global, &view, &text);
    }
    let (Some(hook), Some(hash)) = (view.hook.clone(), view.hash.clone()) else {
        return show_one(global, &view, "this repository has no setup hook\n");
    };
    if !show {
        let wanted = TrustRequest { repo, hash: Some(hash.clone()) };
        view = client.call(Method::PUT, "/v1/trust", Some(&wanted)).await?;
    }
    let is = if view.trusted.contains(&hash) { "is trusted" } else { "is not trusted" };
    show_one(global, &view, &format!("{} {is}\nsha256 {hash}\n", render::printable(&hook)))
}
