//! `restore`: brings a removed environment back as a new incarnation.

use std::process::ExitCode;

use hyper::Method;

use crate::api::archives::{ArchivedIncarnationView, RestoreRequest};
use crate::api::types::EnvironmentView;
use crate::cli::args::Global;
use crate::cli::ask;
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::output::{CommandResult, NOTHING, WAIT_SECONDS, encode, show_one};
use crate::cli::shell;
use crate::core::{Code, Fault};
use crate::format::age;

pub(in crate::cli) async fn restore(
    global: &Global,
    id: Option<&str>,
    incarnation: Option<u32>,
) -> CommandResult {
    let mut client = Client::connect(global).await?;
    let id = match id {
        Some(id) => id.to_owned(),
        None => last_removed(global, &mut client).await?,
    };
    let path = format!("/v1/environments/{}/restore?wait={WAIT_SECONDS}", encode(&id));
    let wanted = RestoreRequest { incarnation };
    let found: EnvironmentView = client.call(Method::POST, &path, Some(&wanted)).await?;
    match (&found.error, found.phase.as_str()) {
        (Some(problem), "failed") => Err(CliError(Box::new(problem.clone()))),
        _ if global.json => show_one(global, &found, ""),
        _ => {
            shell::print_or_go(global, &found.path);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Returns the environment that was removed last, if the user means that one.
async fn last_removed(global: &Global, client: &mut Client) -> Result<String, CliError> {
    let trash: Vec<ArchivedIncarnationView> =
        client.call(Method::GET, "/v1/trash", NOTHING).await?;
    let removed = trash.into_iter().filter(|entry| entry.kind == "removed");
    let Some(last) = removed.max_by(|a, b| a.removed_at.cmp(&b.removed_at)) else {
        let hint = "`groundskeeper rescue ls` lists what is saved of others";
        return Err(
            Fault::new(Code::NotFound, "no removed environment is in the trash", hint).into()
        );
    };
    let (id, when) = (last.id, age(&last.removed_at));
    if ask::is_due(global, false) {
        ask::consent(&format!("restore {id}, which was removed {when} ago?"))?;
        return Ok(id);
    }
    // A script says what it means.
    let message = format!("no environment is named; the last one removed is {id}, {when} ago");
    let hint = format!("run `groundskeeper restore {id}`");
    Err(Fault::new(Code::InvalidRequest, message, hint).into())
}
