//! `rescue`: lists, shows and drops rescue refs.

use hyper::Method;

use crate::api::archives::ArchivedIncarnationView;
use crate::cli::args::{Global, Rescue};
use crate::cli::ask;
use crate::cli::client::Client;
use crate::cli::output::{CommandResult, NOTHING, WAIT_SECONDS, encode, show_one};
use crate::cli::render;
use crate::core::{Code, Fault};

pub(in crate::cli) async fn rescue(global: &Global, what: Rescue) -> CommandResult {
    let mut client = Client::connect(global).await?;
    let list: Vec<ArchivedIncarnationView> =
        client.call(Method::GET, "/v1/rescues", NOTHING).await?;
    match what {
        Rescue::Ls => {
            if list.is_empty() && !global.json && !global.quiet {
                render::note("no rescues");
            }
            show_one(global, &list, &render::rescues(&list))
        }
        Rescue::Show { id, incarnation } => {
            let found = pick(&list, &id, incarnation)?;
            show_one(global, found, &render::rescue(found))
        }
        Rescue::Drop { id, incarnation, yes } => {
            let found = pick(&list, &id, incarnation)?;
            let life = found.incarnation;
            if ask::is_due(global, yes) {
                render::lines(&render::rescue(found));
                ask::consent("Drop it? Nothing holds this work then.")?;
            }
            let path = format!("/v1/rescues/{}/{life}?wait={WAIT_SECONDS}", encode(&id));
            let left: Vec<ArchivedIncarnationView> =
                client.call(Method::DELETE, &path, NOTHING).await?;
            show_one(global, &left, &format!("dropped the rescue of {id}, incarnation {life}\n"))
        }
    }
}

/// Returns the rescue of one incarnation, or of the last one that has a rescue if none is named.
pub(in crate::cli) fn pick<'a>(
    list: &'a [ArchivedIncarnationView],
    id: &str,
    incarnation: Option<u32>,
) -> Result<&'a ArchivedIncarnationView, Fault> {
    let of = list.iter().filter(|r| r.id == id);
    let found = of.filter(|r| incarnation.is_none_or(|n| n == r.incarnation));
    found.max_by_key(|r| r.incarnation).ok_or_else(|| {
        let message = format!("there is no rescue of {id}");
        Fault::new(Code::NotFound, message, "run `groundskeeper rescue ls` to list rescues")
    })
}
