//! A removal while it happens: what the daemon does, in words, and what the teardown hook prints.
//! It decides nothing, and a removal does not depend on it.

use std::io::IsTerminal as _;

use hyper::Method;

use crate::api::types::{EnvironmentView, RemoveQuery, RemovedView};
use crate::cli::args::Global;
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::event_stream::{ACCEPT, EventStream};
use crate::cli::interrupt::Interrupt;
use crate::cli::output::{NOTHING, WAIT_SECONDS, encode};
use crate::cli::render::{self, Steps};

/// Removes an environment, and shows at a terminal what happens meanwhile.
///
/// # Errors
/// Those of the removal.
pub(super) async fn remove_shown(
    global: &Global,
    client: &mut Client,
    id: &str,
    how: &RemoveQuery,
) -> Result<RemovedView, CliError> {
    let _interrupt = Interrupt::told(format!(
        "{id}: the removal goes on; `groundskeeper show {id}` tells how far it is"
    ));
    if global.quiet || global.json || !std::io::stderr().is_terminal() {
        return remove(client, id, how).await;
    }
    let steps = Steps::new(false);
    let removal = remove(client, id, how);
    let shown = follow(global, id, &steps);
    let mut removal = std::pin::pin!(removal);
    let done = tokio::select! {
        done = &mut removal => done,
        // Without a stream of its own it is waited for in silence.
        _ = shown => removal.await,
    };
    steps.finish();
    done
}

/// Removes an environment and waits for the end, at most [`WAIT_SECONDS`].
pub(super) async fn remove(
    client: &mut Client,
    id: &str,
    how: &RemoveQuery,
) -> Result<RemovedView, CliError> {
    let branch = how.branch.as_deref().map(|b| format!("&branch={}", encode(b)));
    let path = format!(
        "/v1/environments/{}?force={}&no_teardown={}&end_bystanders={}&no_rescue={}\
         &wait={WAIT_SECONDS}{}",
        encode(id),
        how.force,
        how.no_teardown,
        how.end_bystanders,
        how.no_rescue,
        branch.unwrap_or_default()
    );
    client.call(Method::DELETE, &path, NOTHING).await
}

/// Shows the steps of an environment until the stream of its events ends.
async fn follow(global: &Global, id: &str, steps: &Steps) -> Result<(), CliError> {
    let mut asking = Client::connect(global).await?;
    let mut stream = Client::connect(global).await?;
    let seq = show_step(&mut asking, id, steps).await?;
    let path = format!("/v1/events?environment={}&since={seq}", encode(id));
    let answer = stream.send(Method::GET, &path, &ACCEPT, None).await?;
    if !answer.status().is_success() {
        return Ok(());
    }
    let mut events = EventStream::of(answer);
    while let Ok(Some(event)) = events.next().await {
        match event.get("line").and_then(|line| line.as_str()) {
            Some(line) => steps.output(line),
            None => drop(show_step(&mut asking, id, steps).await?),
        }
    }
    Ok(())
}

/// Shows what the environment is owed now, and returns its last record.
async fn show_step(client: &mut Client, id: &str, steps: &Steps) -> Result<u64, CliError> {
    let path = format!("/v1/environments/{}", encode(id));
    let found: EnvironmentView = client.call(Method::GET, &path, NOTHING).await?;
    if let Some(step) = &found.step {
        steps.step(&format!("{id}: {}", render::step_in_words(step)));
    }
    Ok(found.seq)
}
