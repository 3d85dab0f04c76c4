//! `events`: prints the records of the log, one a line, and follows new ones on request.

use std::process::ExitCode;

use http_body_util::BodyExt as _;
use hyper::Method;

use crate::cli::args::Global;
use crate::cli::client::{self, Client};
use crate::cli::output::{CommandResult, encode};
use crate::cli::render;
use crate::core::{Code, Fault};

pub(in crate::cli) async fn events(
    global: &Global,
    since: u64,
    follow: bool,
    env: Option<String>,
) -> CommandResult {
    let mut client = Client::connect(global).await?;
    let only = env.map(|id| format!("&environment={}", encode(&id))).unwrap_or_default();
    let path = format!("/v1/events?since={since}&follow={follow}{only}");
    let answer = client.send(Method::GET, &path, &[], None).await?;
    if !answer.status().is_success() {
        client::read(answer).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut body = answer.into_body();
    let mut rest = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| {
            let hint = "run the command again with --since and the last seq";
            Fault::new(Code::DaemonUnreachable, "the event stream broke", hint).caused_by(&e)
        })?;
        rest.extend_from_slice(frame.data_ref().map_or(&[][..], |d| d));
        let end = rest.iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
        let lines: Vec<u8> = rest.drain(..end).collect();
        let lines = String::from_utf8_lossy(&lines);
        if global.json {
            render::out(&lines);
        } else {
            let shown: String = lines
                .lines()
                .map(|l| render::record(&serde_json::from_str(l).unwrap_or_default()))
                .collect();
            render::out(&shown);
        }
    }
    Ok(ExitCode::SUCCESS)
}
