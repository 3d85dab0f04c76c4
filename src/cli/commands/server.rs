//! `server`, `up` and `host`: run the control server on this machine and manage the hosts it knows.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hyper::Method;
use serde_json::json;
use tokio::sync::oneshot;

use crate::cli::args::{Global, Hosts, Server};
use crate::cli::client::{self, Client};
use crate::cli::error::CliError;
use crate::cli::output::{CommandResult, NOTHING, encode, log_to_stderr, show_one};
use crate::cli::render;
use crate::core::{Code, Fault};
use crate::daemon::options::StartOptions;
use crate::daemon::signals::Signals;
use crate::server::run::{Options, address, start};
use crate::server::types::{HostKey, HostView, NewHost};
use crate::session::Link;

/// Host id of this machine at the server that `up` runs.
const LOCAL: &str = "local";

/// Returns the directory of the server: the named one, or `server` in the data directory.
fn directory(global: &Global, dir: Option<&Path>) -> Result<PathBuf, Fault> {
    match dir {
        Some(dir) => Ok(dir.to_owned()),
        None => Ok(client::layout(global)?.root().join("server")),
    }
}

fn options(dir: PathBuf, listen: Option<SocketAddr>) -> Options {
    Options { dir, listen, timing: crate::server::run::timing() }
}

/// Runs a server in the foreground until a signal ends it.
pub(in crate::cli) fn server(global: &Global, wanted: &Server) -> CommandResult {
    log_to_stderr(global, wanted.logging);
    let dir = directory(global, wanted.server_dir.as_deref())?;
    let options = options(dir, wanted.listen);
    runtime()?.block_on(async {
        let mut signals = Signals::listen();
        let running = start(options).await?;
        running.announce();
        let why = signals.next().await;
        tracing::info!(why, "stopping");
        running.stop().await;
        Ok(ExitCode::SUCCESS)
    })
}

/// Runs server and daemon in one process; the daemon has a session with the server.
pub(in crate::cli) fn up(global: &Global, wanted: &Server) -> CommandResult {
    log_to_stderr(global, wanted.logging);
    let layout = client::layout(global)?;
    let dir = directory(global, wanted.server_dir.as_deref())?;
    let key_file = layout.root().join("server-key");
    let options = options(dir.clone(), wanted.listen);
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    let (stop, stopped) = oneshot::channel::<()>();
    let key = key_file.clone();
    // The server has its own runtime, so that neither side blocks the other's threads.
    let thread = std::thread::Builder::new().name("gk-server".to_owned()).spawn(move || {
        let served = runtime().map(|runtime| {
            runtime.block_on(async {
                let running = match start(options).await {
                    Ok(running) => running,
                    Err(fault) => return drop(sender.send(Err(fault))),
                };
                running.announce();
                drop(sender.send(running.ensure_host(LOCAL, &key).await));
                drop(stopped.await);
                running.stop().await;
            });
        });
        drop(served);
    });
    let thread = thread.map_err(|e| {
        Fault::new(Code::Io, "cannot start the server thread", "free some memory").because(e)
    })?;
    let gone = || Fault::new(Code::Defect, "the server ended at its start", "please report this");
    receiver.recv().unwrap_or_else(|_| Err(gone()))?;
    let link = Link::new(&format!("unix:{}", address(&dir).display()), &key_file)?;
    let ran = crate::daemon::run::run(
        layout.root(),
        StartOptions { link: Some(link), ..StartOptions::default() },
    );
    let _told = stop.send(());
    drop(thread.join());
    ran?;
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> Result<tokio::runtime::Runtime, Fault> {
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    built.map_err(|e| {
        Fault::new(Code::Io, "cannot start the runtime", "free some memory").because(e)
    })
}

/// Adds, lists and removes hosts.
pub(in crate::cli) async fn host(
    global: &Global,
    what: Hosts,
    dir: Option<&Path>,
) -> CommandResult {
    let dir = directory(global, dir)?;
    let mut client = Client::at(&address(&dir)).await.map_err(|e| {
        let message = format!("cannot reach a control server for {}", dir.display());
        let hint = "start one with `groundskeeper server` or `groundskeeper up`";
        Fault::new(Code::DaemonUnreachable, message, hint).because(e)
    })?;
    match what {
        Hosts::Add { id, replace } => {
            let wanted = NewHost { id, replace };
            let made: HostKey = client.call(Method::POST, "/v1/hosts", Some(&wanted)).await?;
            if !global.json && !global.quiet {
                render::note(
                    "this key is shown only once; write it to a file that only the daemon's \
                              user can read, and set `server_key_file` to the path of the file",
                );
            }
            show_one(global, &made, &format!("{}\n", made.key))
        }
        Hosts::Ls => {
            let all: Vec<HostView> = client.call(Method::GET, "/v1/hosts", NOTHING).await?;
            show_one(global, &all, &render::hosts(&all))
        }
        Hosts::Rm { id } => {
            let path = format!("/v1/hosts/{}", encode(&id));
            // The server forgets a host that it does not know as well; a person mistyped it.
            let known: HostView = client.call(Method::GET, &path, NOTHING).await?;
            let gone: Result<Option<()>, CliError> =
                client.call(Method::DELETE, &path, NOTHING).await;
            gone?;
            let text = format!("host {} is removed; its key is not valid any more\n", known.id);
            show_one(global, &json!({ "id": known.id, "removed": true }), &text)
        }
    }
}
