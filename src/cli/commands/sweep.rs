//! `sweep`: lists what no record explains, and settles it on request if it is provably managed.

use hyper::Method;

use crate::api::sweep::{SweepRequest, SweepView};
use crate::cli::args::Global;
use crate::cli::ask;
use crate::cli::client::Client;
use crate::cli::output::{CommandResult, show_one};
use crate::cli::render;

pub(in crate::cli) async fn sweep(
    global: &Global,
    apply: bool,
    limit: u64,
    yes: bool,
) -> CommandResult {
    let mut client = Client::connect(global).await?;
    if apply && ask::is_due(global, yes) {
        let wanted = SweepRequest { apply: false, limit };
        let found: SweepView = client.call(Method::POST, "/v1/sweep", Some(&wanted)).await?;
        let ours = found.findings.iter().filter(|finding| finding.ours).count();
        if ours > 0 {
            render::out(&render::sweep(&found));
            ask::consent(&format!("Settle {ours} of {} findings?", found.found))?;
        }
    }
    let wanted = SweepRequest { apply, limit };
    let found: SweepView = client.call(Method::POST, "/v1/sweep", Some(&wanted)).await?;
    if !global.json && !global.quiet {
        render::sweep_summary(&found, apply);
    }
    show_one(global, &found, &render::sweep(&found))
}
