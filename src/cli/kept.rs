//! The verbs for what is kept: restore, trash, rescue; and sweep.

use hyper::Method;

use super::args::{Global, Rescue, Trash};
use super::client::{Client, Failed};
use super::render;
use super::verbs::{Done, NOTHING, WAIT_SECONDS, encode, show_one};
use crate::api::kept::{RemainsView, RestoreRequest, SweepRequest, SweepView};
use crate::api::types::EnvironmentView;
use crate::core::{Code, Fault};

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
        Trash::Empty { id } => {
            let only = id.map(|id| format!("&environment={}", encode(&id))).unwrap_or_default();
            let path = format!("/v1/trash?wait={WAIT_SECONDS}{only}");
            client.call(Method::DELETE, &path, NOTHING).await?
        }
    };
    if list.is_empty() && !global.json && !global.quiet {
        render::note("the trash is empty");
    }
    show_one(global, &list, &render::trash(&list))
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
