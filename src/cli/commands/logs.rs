//! `logs`: prints what the hooks of an environment printed: from their transcripts, or the last
//! lines from the log of the daemon once a transcript is gone.

use std::path::Path;

use groundskeeper_system::own_file::{self, Links};
use hyper::Method;
use serde_json::{Value, json};

use crate::api::types::EnvironmentView;
use crate::cli::args::Global;
use crate::cli::client::{self, Client};
use crate::cli::commands::events;
use crate::cli::error::CliError;
use crate::cli::named;
use crate::cli::output::{CommandResult, NOTHING, encode, show_one};
use crate::cli::render;
use crate::core::{Code, Fault};
use crate::service::requests::environment_id;
use crate::world::fs::paths;

/// Largest transcript that is read, in bytes. The daemon keeps less than that of a hook.
const TRANSCRIPT_BYTES_MAX: u64 = 4 << 20;

/// Kinds of the records that begin an incarnation.
const BEGINNINGS: [&str; 3] = ["ProvisionRequested", "RestoreRequested", "EnvironmentAdopted"];

/// The output of one hook.
struct Output {
    text: String,
    /// Whether the transcript is gone: these are the last lines, which the log has.
    is_tail: bool,
}

pub(in crate::cli) async fn logs(
    global: &Global,
    id: Option<&str>,
    incarnation: Option<u32>,
) -> CommandResult {
    let mut client = Client::connect(global).await?;
    let id = environment_id(&named::any(&mut client, id).await?)?;
    // The records that began it may be trimmed.
    let shown = format!("/v1/environments/{}?all=true", encode(id.as_str()));
    let env: EnvironmentView = client.call(Method::GET, &shown, NOTHING).await?;
    let path = format!("/v1/events?since=0&follow=false&environment={}", encode(id.as_str()));
    let records = events::records(&mut client, &path).await?;
    let last = u64::from(env.incarnation);
    let life = incarnation.map_or(last, u64::from);
    if life == 0 || life > last {
        let message = format!("environment {id} has no incarnation {life}");
        let hint = format!("choose one of 1 to {last}");
        return Err(Fault::new(Code::NotFound, message, hint).into());
    }
    let number = u32::try_from(life).unwrap_or(u32::MAX);
    let layout = client::layout(global)?;
    let setup = layout.transcript_of(&id, number);
    let (records, life) = (&records, Life { number: life, last });
    let setup = output(&setup, records, life, &["SetupFinished", "ProvisionFailed"])?;
    let teardown = layout.teardown_transcript_of(&id, number);
    let teardown = output(&teardown, records, life, &["TeardownHookFinished"])?;
    let life = life.number;
    if global.json {
        let value = json!({
            "id": id.to_string(), "incarnation": life,
            "setup": setup.as_ref().map(as_json), "teardown": teardown.as_ref().map(as_json),
        });
        return show_one(global, &value, "");
    }
    if setup.is_none() && teardown.is_none() && !global.quiet {
        render::note(&format!("no hook has run for incarnation {life} of {id}"));
    }
    for (name, found) in [("setup", setup), ("teardown", teardown)] {
        let Some(Output { text, is_tail }) = found else { continue };
        if !global.quiet {
            let tail = if is_tail { ", of which the log has the last lines" } else { "" };
            render::note(&format!("output of the {name} hook{tail}:"));
        }
        render::out(&text);
    }
    Ok(std::process::ExitCode::SUCCESS)
}

/// An incarnation, and the last one of its environment.
#[derive(Clone, Copy)]
struct Life {
    number: u64,
    last: u64,
}

/// Returns the output of one hook of an incarnation, if it has run.
fn output(
    transcript: &Path,
    records: &[Value],
    life: Life,
    kinds: &[&str],
) -> Result<Option<Output>, CliError> {
    let read = own_file::read(transcript, TRANSCRIPT_BYTES_MAX, Links::Refused);
    let found = read.map_err(paths::failed("read", transcript))?;
    if let Some(bytes) = found {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        return Ok(Some(Output { text, is_tail: false }));
    }
    Ok(tail(records, life, kinds).map(|text| Output { text, is_tail: true }))
}

/// Returns the last lines that the records of an incarnation have of a hook.
fn tail(records: &[Value], life: Life, kinds: &[&str]) -> Option<String> {
    let begun = |record: &&Value| BEGINNINGS.contains(&record["kind"].as_str().unwrap_or_default());
    let first = records.iter().find(begun).and_then(|record| record["incarnation"].as_u64());
    // Records from before the first beginning are about the incarnation before that.
    let mut current = first.map_or(life.last, |first| first.saturating_sub(1));
    let mut found = None;
    for record in records {
        let kind = record["kind"].as_str().unwrap_or_default();
        // Others name the incarnation of an archive.
        if BEGINNINGS.contains(&kind) {
            current = record["incarnation"].as_u64().unwrap_or(current);
        }
        if current != life.number || !kinds.contains(&kind) {
            continue;
        }
        let is_hook = kind != "ProvisionFailed" || record["step"] == "run_setup";
        let lines = record["tail"].as_array().filter(|lines| !lines.is_empty());
        let lines = lines.or_else(|| record["fault"]["evidence"].as_array()).filter(|_| is_hook);
        let lines = lines.into_iter().flatten().filter_map(Value::as_str);
        let lines: Vec<&str> = lines.filter(|line| !line.starts_with("transcript: ")).collect();
        found = (!lines.is_empty()).then(|| lines.join("\n") + "\n").or(found);
    }
    found
}

fn as_json(output: &Output) -> Value {
    let from = if output.is_tail { "log" } else { "transcript" };
    json!({ "text": output.text, "from": from })
}
