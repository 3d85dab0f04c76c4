//! `rm`: removes environments and shows what was saved of each.

use std::process::ExitCode;

use serde_json::Value;

use crate::api::types::{RemoveQuery, RemovedView};
use crate::cli::args::{Global, Remove};
use crate::cli::client::Client;
use crate::cli::commands::ps;
use crate::cli::error::CliError;
use crate::cli::named;
use crate::cli::output::{CommandResult, print_json, show_one};
use crate::cli::removal::remove_shown;
use crate::cli::render;
use crate::core::{Code, Fault};

/// Removes environments one after another. One that cannot be removed does not keep the others.
pub(in crate::cli) async fn rm(global: &Global, wanted: &Remove) -> CommandResult {
    if wanted.dry_run {
        return ps::evidence(global, &wanted.ids).await;
    }
    let mut client = Client::connect(global).await?;
    if let [only] = wanted.ids.as_slice() {
        let removed = remove_named(global, &mut client, only, wanted).await?;
        tell(global, &mut client, &removed).await;
        return show_one(global, &removed, "");
    }
    let (mut results, mut failed) = (Vec::new(), None);
    for typed in &wanted.ids {
        match remove_named(global, &mut client, typed, wanted).await {
            Ok(removed) => {
                tell(global, &mut client, &removed).await;
                results.push(serde_json::to_value(&removed).unwrap_or(Value::Null));
            }
            Err(error) => {
                let error = named::suggest(&mut client, error, typed).await;
                if !global.json {
                    render::problem(&error.0);
                }
                results.push(CliError::to_json(&error.0));
                failed = failed.or(Some(error.exit_code()));
            }
        }
    }
    if global.json {
        print_json(&results);
    }
    Ok(failed.unwrap_or(ExitCode::SUCCESS))
}

/// Says what a removal did, and how to leave the directory if the user stands in it.
async fn tell(global: &Global, client: &mut Client, removed: &RemovedView) {
    if global.json || global.quiet {
        return;
    }
    render::removed(removed);
    if named::is_gone(global) {
        named::note_way_out(client).await;
    }
}

async fn remove_named(
    global: &Global,
    client: &mut Client,
    typed: &str,
    wanted: &Remove,
) -> Result<RemovedView, CliError> {
    let id = named::whole(client, typed).await?;
    let how = RemoveQuery {
        force: wanted.force,
        branch: wanted.branch.clone(),
        no_teardown: wanted.no_teardown,
        end_bystanders: wanted.end_bystanders,
        no_rescue: wanted.no_rescue,
        ..RemoveQuery::default()
    };
    let removed = remove_shown(global, client, &id, &how).await?;
    if removed.incarnation == 0 && !wanted.if_exists {
        let message = format!("there is no environment {id}");
        let hint = "`groundskeeper ls` lists all; with --if-exists this is a success";
        return Err(Fault::new(Code::EnvironmentNotFound, message, hint).into());
    }
    Ok(removed)
}
