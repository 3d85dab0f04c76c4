//! The verbs for what is kept: restore, trash, rescue; and sweep.

use std::time::Duration;

use hyper::Method;

use super::args::{Global, Rescue, Trash};
use super::client::{Client, Failed};
use super::render;
use super::verbs::{Done, NOTHING, WAIT_SECONDS, encode, show_one};
use crate::api::kept::{RemainsView, RestoreRequest, SweepRequest, SweepView};
use crate::api::types::EnvironmentView;
use crate::core::{Code, Fault};

/// How often it is looked how much of the trash is left.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(super) async fn restore(global: &Global, id: &str, incarnation: Option<u32>) -> Done {
    let mut client = Client::connect(global).await?;
    let path = format!("/v1/environments/{}/restore?wait={WAIT_SECONDS}", encode(id));
    let wanted = RestoreRequest { incarnation };
    let found: EnvironmentView = client.call(Method::POST, &path, Some(&wanted)).await?;
    match (&found.error, found.phase.as_str()) {
        (Some(problem), "failed") => Err(Failed(Box::new(problem.clone()))),
        _ => show_one(global, &found, &format!("{}\n", render::printable(&found.path))),
    }
}

pub(super) async fn trash(global: &Global, what: Trash) -> Done {
    let mut client = Client::connect(global).await?;
    let list: Vec<RemainsView> = match what {
        Trash::Ls => client.call(Method::GET, "/v1/trash", NOTHING).await?,
        Trash::Empty { id, lose } => {
            if lose {
                tell_what_is_lost(global, &mut client, id.as_deref()).await?;
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
        list.iter().filter_map(render::stays).for_each(|why| render::note(&why));
    }
    show_one(global, &list, &render::trash(&list))
}

/// Names what goes for good, before it does.
async fn tell_what_is_lost(
    global: &Global,
    client: &mut Client,
    id: Option<&str>,
) -> Result<(), Failed> {
    let list: Vec<RemainsView> = client.call(Method::GET, "/v1/trash", NOTHING).await?;
    for remains in list.iter().filter(|r| id.is_none_or(|id| r.id == id)) {
        for what in remains.only_copy_of.iter().filter(|_| !global.quiet) {
            let (id, life) = (&remains.id, remains.incarnation);
            render::note(&format!("lost with {id} (life {life}): {}", render::printable(what)));
        }
    }
    Ok(())
}

/// Empties the trash, showing meanwhile what is left of it.
async fn emptied(
    global: &Global,
    client: &mut Client,
    path: &str,
) -> Result<Vec<RemainsView>, Failed> {
    let steps = render::Steps::new(global.quiet || global.json);
    steps.step("unlinking what is in the trash");
    let mut other = Client::connect(global).await?;
    let call = client.call(Method::DELETE, path, NOTHING);
    tokio::pin!(call);
    let mut left = usize::MAX;
    let done = loop {
        tokio::select! {
            done = &mut call => break done,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let list: Vec<RemainsView> = other.call(Method::GET, "/v1/trash", NOTHING).await?;
        if list.len() < left {
            left = list.len();
            let bytes = list.iter().filter_map(|r| r.bytes).sum();
            steps.step(&format!("{left} left, {}", crate::format::bytes(bytes)));
        }
    };
    steps.finish();
    done
}

pub(super) async fn rescue(global: &Global, what: Rescue) -> Done {
    let mut client = Client::connect(global).await?;
    let list: Vec<RemainsView> = client.call(Method::GET, "/v1/rescues", NOTHING).await?;
    match what {
        Rescue::Ls => {
            if list.is_empty() && !global.json && !global.quiet {
                render::note("no rescue is held");
            }
            show_one(global, &list, &render::rescues(&list))
        }
        Rescue::Show { id, incarnation } => {
            let found = pick(&list, &id, incarnation)?;
            show_one(global, found, &render::rescue(found))
        }
        Rescue::Drop { id, incarnation } => {
            let found = pick(&list, &id, incarnation)?;
            let life = found.incarnation;
            let path = format!("/v1/rescues/{}/{life}?wait={WAIT_SECONDS}", encode(&id));
            let left: Vec<RemainsView> = client.call(Method::DELETE, &path, NOTHING).await?;
            show_one(global, &left, &format!("let go of {id}, incarnation {life}\n"))
        }
    }
}

/// The rescue of one incarnation; of the last one when none is named.
fn pick<'a>(
    list: &'a [RemainsView],
    id: &str,
    incarnation: Option<u32>,
) -> Result<&'a RemainsView, Fault> {
    let of = list.iter().filter(|r| r.id == id);
    let found = of.filter(|r| incarnation.is_none_or(|n| n == r.incarnation));
    found.max_by_key(|r| r.incarnation).ok_or_else(|| {
        let message = format!("no rescue of {id} is held");
        Fault::new(Code::NotFound, message, "`groundskeeper rescue ls` lists them")
    })
}

pub(super) async fn sweep(global: &Global, apply: bool, limit: u64) -> Done {
    let mut client = Client::connect(global).await?;
    let wanted = SweepRequest { apply, limit };
    let found: SweepView = client.call(Method::POST, "/v1/sweep", Some(&wanted)).await?;
    if !global.json && !global.quiet {
        render::sweep_summary(&found, apply);
    }
    show_one(global, &found, &render::sweep(&found))
}
