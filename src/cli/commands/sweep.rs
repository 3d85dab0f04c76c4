//! `sweep`: lists what no record explains, and settles it on request if it is provably managed.

use hyper::Method;

use crate::api::sweep::{SweepRequest, SweepView};
use crate::cli::args::Global;
use crate::cli::client::Client;
use crate::cli::output::{CommandResult, show_one};
use crate::cli::render;

pub(in crate::cli) async fn sweep(global: &Global, apply: bool, limit: u64) -> CommandResult {
    let mut client = Client::connect(global).await?;
    let wanted = SweepRequest { apply, limit };
    let found: SweepView = client.call(Method::POST, "/v1/sweep", Some(&wanted)).await?;
    if !global.json && !global.quiet {
        render::sweep_summary(&found, apply);
    }
    show_one(global, &found, &render::sweep(&found))
}
