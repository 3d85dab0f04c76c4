//! `rename` gives an environment a label for people. Its id, directory and branch stay as they are.

use hyper::Method;

use crate::api::types::{EnvironmentView, NewLabel};
use crate::cli::args::Global;
use crate::cli::client::Client;
use crate::cli::named;
use crate::cli::output::{CommandResult, encode, show_one};
use crate::cli::render::printable;

pub(in crate::cli) async fn rename(
    global: &Global,
    typed: &str,
    label: Option<String>,
) -> CommandResult {
    let mut client = Client::connect(global).await?;
    let id = &named::whole(&mut client, typed).await?;
    let path = format!("/v1/environments/{}/label", encode(id));
    let wanted = NewLabel { label };
    let found: EnvironmentView = client.call(Method::PUT, &path, Some(&wanted)).await?;
    let text = match &found.label {
        Some(label) => format!("{id} is shown as: {}\n", printable(label)),
        None => format!("{id} has no label\n"),
    };
    show_one(global, &found, if global.quiet { "" } else { &text })
}
