//! `adopt`: registers a worktree that another tool created.

use std::path::Path;

use hyper::Method;

use crate::api::contents::Adoption;
use crate::api::types::EnvironmentView;
use crate::cli::args::Global;
use crate::cli::client::Client;
use crate::cli::output::{CommandResult, show_one};
use crate::core::{Code, Fault};
use crate::world::fs::paths;

pub(in crate::cli) async fn adopt(
    global: &Global,
    path: &Path,
    id: Option<String>,
) -> CommandResult {
    let real = path.canonicalize().map_err(|e| paths::fault("find", path, &e))?;
    let path = real.into_os_string().into_string().map_err(|path| {
        let message = format!("the path {} is not UTF-8", Path::new(&path).display());
        Fault::new(Code::InvalidRequest, message, "rename the directory to a UTF-8 name")
    })?;
    let mut client = Client::connect(global).await?;
    let wanted = Adoption { path, id };
    let found: EnvironmentView = client.call(Method::POST, "/v1/adopt", Some(&wanted)).await?;
    show_one(global, &found, &format!("{}\n", found.id))
}
