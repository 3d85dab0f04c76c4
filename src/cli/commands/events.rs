//! `events`: prints the records of the log, one a line, and follows new ones on request.

use std::path::Path;
use std::process::ExitCode;

use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::body::Incoming;
use serde_json::Value;

use crate::cli::args::{Global, Since};
use crate::cli::client::{self, Client};
use crate::cli::error::CliError;
use crate::cli::named;
use crate::cli::output::{CommandResult, encode};
use crate::cli::render;
use crate::core::{Code, Fault};
use crate::world::fs::paths;

/// The item that ends a stream because the daemon stops.
const STOPPING: &str = "{\"kind\":\"daemon.stopping\"}";

/// Which records to print.
pub(in crate::cli) struct Wanted {
    pub(in crate::cli) since: Since,
    pub(in crate::cli) last: Option<usize>,
    pub(in crate::cli) follow: bool,
    pub(in crate::cli) env: Option<String>,
}

impl Wanted {
    /// Returns the request for them; `only` is the environment that they are about.
    fn path(&self, only: Option<&str>, describe: bool) -> String {
        let since = match &self.since {
            Since::Seq(seq) => format!("since={seq}"),
            Since::Time(time) => format!("from={}", encode(time)),
        };
        let last = self.last.map(|last| format!("&last={last}")).unwrap_or_default();
        let only = only.map(|id| format!("&environment={}", encode(id))).unwrap_or_default();
        format!("/v1/events?{since}{last}{only}&follow={}&describe={describe}", self.follow)
    }
}

pub(in crate::cli) async fn events(global: &Global, wanted: &Wanted) -> CommandResult {
    let mut client = Client::connect(global).await?;
    let only = match &wanted.env {
        Some(typed) => Some(named::any(&mut client, Some(typed)).await?),
        None => None,
    };
    let path = wanted.path(only.as_deref(), !global.json);
    let answer = client.send(Method::GET, &path, &[], None).await?;
    if !answer.status().is_success() {
        client::read(answer).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let layout = client::layout(global)?;
    let mut has_stopped = false;
    each_lines(answer.into_body(), &mut |lines| {
        has_stopped |= lines.contains(STOPPING);
        if global.json {
            return render::out(lines);
        }
        let shown: String = lines.lines().map(|line| shown(line, layout.root())).collect();
        render::out(&shown);
    })
    .await?;
    if has_stopped && wanted.follow {
        let hint = "run the command again to go on; it starts the daemon";
        return Err(Fault::new(Code::DaemonUnreachable, "the daemon has stopped", hint).into());
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns a line of the stream as text; what is no record goes to stderr.
fn shown(line: &str, dir: &Path) -> String {
    let item: Value = serde_json::from_str(line).unwrap_or_default();
    if item["kind"] == "daemon.stopping" {
        return String::new();
    }
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
