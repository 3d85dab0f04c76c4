//! `trash`: lists the trash and empties it.

use std::time::Duration;

use hyper::Method;

use crate::api::archives::ArchivedIncarnationView;
use crate::api::types::EnvironmentView;
use crate::cli::args::{Global, Trash};
use crate::cli::ask;
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::named;
use crate::cli::output::{CommandResult, NOTHING, WAIT_SECONDS, encode, show_one};
use crate::cli::render;
use crate::core::{Code, Fault};

/// Interval at which the remaining size of the trash is read while it is emptied.
pub(in crate::cli) const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(in crate::cli) async fn trash(global: &Global, what: Trash) -> CommandResult {
    let mut client = Client::connect(global).await?;
    let list: Vec<ArchivedIncarnationView> = match what {
        Trash::Ls => client.call(Method::GET, "/v1/trash", NOTHING).await?,
        Trash::Empty { id, lose, yes } => {
            let id = match id {
                Some(typed) => Some(named::whole(&mut client, &typed).await?),
                None => None,
            };
            let here = entries(&mut client, id.as_deref()).await?;
            if let Some(id) = id.as_deref().filter(|_| here.is_empty()) {
                // An environment that never was is an error; one that left nothing is told so.
                let path = format!("/v1/environments/{}?all=true", encode(id));
                let _known: EnvironmentView = client.call(Method::GET, &path, NOTHING).await?;
                if !global.json && !global.quiet {
                    render::note(&format!("the trash holds nothing of {id}"));
                }
                return show_one(global, &here, "");
            }
            if lose {
                warn_about_loss(global, &here);
            }
            if !here.is_empty() && ask::is_due(global, yes) {
                render::lines(&render::trash(&here));
                let bytes = here.iter().filter_map(|entry| entry.bytes).sum();
                let (count, bytes) = (here.len(), crate::format::bytes(bytes));
                ask::consent(&format!("Unlink {count} entries, {bytes}, permanently?"))?;
                let life = |entry: &ArchivedIncarnationView| (entry.id.clone(), entry.incarnation);
                let agreed: Vec<_> = here.iter().map(life).collect();
                let now = entries(&mut client, id.as_deref()).await?;
                if now.iter().any(|entry| !agreed.contains(&life(entry))) {
                    let message = "more has come into the trash meanwhile; nothing was unlinked";
                    let hint = "run `groundskeeper trash empty` again";
                    return Err(Fault::new(Code::EnvironmentBusy, message, hint).into());
                }
            }
            let only = id.map(|id| format!("&environment={}", encode(&id))).unwrap_or_default();
            let only = if lose { format!("{only}&lose=true") } else { only };
            let path = format!("/v1/trash?wait={WAIT_SECONDS}{only}");
            emptied(global, &mut client, &path).await?
        }
    };
    if list.is_empty() && !global.json && !global.quiet {
        render::note("the trash is empty");
    }
    if !global.json && !global.quiet {
        list.iter().filter_map(render::stays).for_each(|why| render::lines(&why));
    }
    show_one(global, &list, &render::trash(&list))
}

/// Returns what is in the trash, of one environment if one is named.
async fn entries(
    client: &mut Client,
    id: Option<&str>,
) -> Result<Vec<ArchivedIncarnationView>, CliError> {
    let mut list: Vec<ArchivedIncarnationView> =
        client.call(Method::GET, "/v1/trash", NOTHING).await?;
    list.retain(|entry| id.is_none_or(|id| entry.id == id));
    Ok(list)
}

/// Lists the content that exists only in the trash and is about to be lost.
fn warn_about_loss(global: &Global, entries: &[ArchivedIncarnationView]) {
    for archive in entries {
        for what in archive.only_copy_of.iter().filter(|_| !global.quiet) {
            let (id, life) = (&archive.id, archive.incarnation);
            render::note(&format!(
                "lost with {id} (incarnation {life}): {}",
                render::printable(what)
            ));
        }
    }
}

/// Empties the trash and shows the number and size of the remaining entries meanwhile.
pub(in crate::cli) async fn emptied(
    global: &Global,
    client: &mut Client,
    path: &str,
) -> Result<Vec<ArchivedIncarnationView>, CliError> {
    let steps = render::Steps::new(global.quiet || global.json);
    steps.step("unlinking trash entries");
    // A second connection: the first one is busy with the request until the trash is empty.
    let mut other = Client::connect(global).await?;
    let call = client.call(Method::DELETE, path, NOTHING);
    tokio::pin!(call);
    let mut left = usize::MAX;
    let done = loop {
        tokio::select! {
            done = &mut call => break done,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let list: Vec<ArchivedIncarnationView> =
            other.call(Method::GET, "/v1/trash", NOTHING).await?;
        if list.len() < left {
            left = list.len();
            let bytes = list.iter().filter_map(|r| r.bytes).sum();
            steps.step(&format!("{left} entries left, {}", crate::format::bytes(bytes)));
        }
    };
    steps.finish();
    done
}
