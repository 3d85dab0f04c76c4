//! `reconcile`: submits a live set by hand, in the place of a control server, or confirms one on
//! hold.

use std::fmt::Write as _;

use hyper::Method;

use crate::api::live_sets::{BY_HAND, ConfirmView, LiveView, ReconciledView};
use crate::cli::args::Global;
use crate::cli::client::Client;
use crate::cli::output::{CommandResult, show_one};
use crate::cli::render;

pub(in crate::cli) async fn reconcile(
    global: &Global,
    live: Vec<String>,
    epoch: u64,
) -> CommandResult {
    let mut client = Client::connect(global).await?;
    // `--live ""` is the way to give an empty list on the command line.
    let live = live.into_iter().filter(|id| !id.is_empty()).collect();
    let server = BY_HAND.to_owned();
    let wanted = LiveView { server, epoch, live, known: None, confirmed: false };
    let found: ReconciledView = client.call(Method::POST, "/v1/reconcile", Some(&wanted)).await?;
    show_one(global, &found, &describe(&found))
}

pub(in crate::cli) async fn confirm(global: &Global, epoch: u64) -> CommandResult {
    let mut client = Client::connect(global).await?;
    let path = "/v1/reconcile/confirm";
    let found: ReconciledView =
        client.call(Method::POST, path, Some(&ConfirmView { epoch })).await?;
    show_one(global, &found, &describe(&found))
}

fn describe(found: &ReconciledView) -> String {
    let mut out = String::new();
    let mut line = |what: &str, ids: &[String]| {
        if !ids.is_empty() {
            let ids: Vec<String> = ids.iter().map(|id| render::printable(id)).collect();
            let _written = writeln!(out, "{what}: {}", ids.join(", "));
        }
    };
    if found.outdated {
        return format!(
            "epoch {} is older than the last applied one; nothing was done\n",
            found.epoch
        );
    }
    line(if found.held { "would be retired" } else { "retired" }, &found.retired);
    let kept: Vec<String> = found.kept.iter().map(|k| format!("{} ({})", k.id, k.why)).collect();
    line("kept", &kept);
    line("missing", &found.missing);
    line("returned to service", &found.healed);
    if found.held {
        let epoch = found.epoch;
        let confirm = format!("groundskeeper reconcile --confirm {epoch}");
        let _written =
            writeln!(out, "on hold: it removes too many at once; confirm with `{confirm}`");
    } else if out.is_empty() {
        out.push_str("nothing to do\n");
    }
    out
}
