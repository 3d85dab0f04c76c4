//! `events`: prints the records of the log, one a line, and follows new ones on request.

use std::path::Path;
use std::process::ExitCode;

use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::body::Incoming;
use serde_json::Value;

use crate::cli::args::Global;
use crate::cli::client::{self, Client};
use crate::cli::error::CliError;
use crate::cli::named;
use crate::cli::output::{CommandResult, encode};
use crate::cli::render;
use crate::core::{Code, Fault};
use crate::world::fs::paths;

pub(in crate::cli) async fn events(
    global: &Global,
    since: u64,
    follow: bool,
    env: Option<String>,
) -> CommandResult {
    let mut client = Client::connect(global).await?;
    let only = match env {
        Some(typed) => {
            let id = named::any(&mut client, Some(&typed)).await?;
            format!("&environment={}", encode(&id))
        }
        None => String::new(),
    };
    let path = format!("/v1/events?since={since}&follow={follow}{only}");
    let answer = client.send(Method::GET, &path, &[], None).await?;
    if !answer.status().is_success() {
        client::read(answer).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let layout = client::layout(global)?;
    each_lines(answer.into_body(), &mut |lines| {
        if global.json {
            return render::out(lines);
        }
        let shown: String = lines.lines().map(|line| shown(line, layout.root())).collect();
        render::out(&shown);
    })
    .await?;
    Ok(ExitCode::SUCCESS)
}

/// Returns a line of the stream as text; what is no record goes to stderr.
fn shown(line: &str, dir: &Path) -> String {
    let item: Value = serde_json::from_str(line).unwrap_or_default();
    if item["fresh"] != true {
        return render::record(&item);
    }
    let first = item["first"].as_u64().unwrap_or(0);
    render::note(&format!(
        "records before {first} are trimmed from the log; `replay list {}` shows those that are \
         kept in its log-archive",
        paths::as_argument(dir)
    ));
    String::new()
}

/// Returns the records that a path of the daemon streams, to its end.
pub(in crate::cli) async fn records(
    client: &mut Client,
    path: &str,
) -> Result<Vec<Value>, CliError> {
    let answer = client.send(Method::GET, path, &[], None).await?;
    if !answer.status().is_success() {
        client::read(answer).await?;
        return Ok(Vec::new());
    }
    let mut records = Vec::new();
    each_lines(answer.into_body(), &mut |lines| {
        records.extend(lines.lines().filter_map(|line| serde_json::from_str(line).ok()));
    })
    .await?;
    Ok(records)
}

/// Calls `each` with the whole lines of a stream as they come.
async fn each_lines(mut body: Incoming, each: &mut dyn FnMut(&str)) -> Result<(), Fault> {
    let mut rest = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| {
            let hint = "run the command again with --since and the last seq";
            Fault::new(Code::DaemonUnreachable, "the event stream broke", hint).caused_by(&e)
        })?;
        rest.extend_from_slice(frame.data_ref().map_or(&[][..], |d| d));
        let end = rest.iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
        let lines: Vec<u8> = rest.drain(..end).collect();
        each(&String::from_utf8_lossy(&lines));
    }
    Ok(())
}
