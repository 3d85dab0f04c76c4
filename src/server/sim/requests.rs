//! What clients ask of the server in the model, at random. Each request may be granted or refused.

use rusqlite::Transaction;
use serde_json::json;

use crate::core::Fault;
use crate::server::environments::{DestroyMode, request_destroy, request_provision};
use crate::server::sim::network::{HOST, Model, NAMES};
use crate::server::threads::{self, Thread, claim};
use crate::server::transitions::Change;
use crate::server::{operations, store};
use crate::session::protocol::HostCommand;

impl Model {
    /// Makes a random request at the server, which may be granted or refused.
    pub(super) fn make_request(&mut self) {
        self.requests += 1;
        let n = self.requests;
        let id = NAMES[self.random.below(2) as usize].to_owned();
        let host_command = |command: &str, body| HostCommand {
            request: format!("w{n}"),
            name: command.to_owned(),
            environment: id.clone(),
            body,
        };
        let thread = format!("t{}", self.random.below(n) + 1);
        let force = self.random.below(2) == 0;
        let kind = self.random.below(14);
        let _granted = self.with(|tx| match kind {
            0..=3 => request_provision(tx, HOST, &host_command("environment.provision", json!({}))),
            4 | 5 => {
                let how = if force { DestroyMode::Forced } else { DestroyMode::Safely };
                request_destroy(tx, HOST, &id, &format!("w{n}"), how).map(drop)
            }
            6 => {
                store::get(tx, HOST, &id)?;
                request_provision(tx, HOST, &host_command("environment.restore", json!({})))
            }
            7 => {
                store::get(tx, HOST, &id)?;
                operations::add(tx, &host_command("environment.cancel", json!({})), HOST)
            }
            8 => start_thread(tx, &id, n),
            9 => end_thread(tx, &thread, n),
            10 => {
                store::change(tx, HOST, &id, Change::Retire, None, None)?;
                store::retire_at(tx, HOST, &id, 0)
            }
            _ => {
                store::get(tx, HOST, &id)?;
                operations::add(tx, &host_command("exec", json!({})), HOST)
            }
        });
        self.notify_session();
    }
}

fn start_thread(tx: &Transaction<'_>, environment: &str, n: u64) -> Result<(), Fault> {
    let thread = Thread {
        host: HOST.to_owned(),
        id: format!("t{n}"),
        environment: environment.to_owned(),
        kind: "thread".to_owned(),
        holder: None,
        lease: format!("l{n}"),
        active: true,
        error: None,
    };
    let started = crate::server::usage::start(tx, &thread)?;
    operations::add(tx, &claim(&started), HOST)
}

fn end_thread(tx: &Transaction<'_>, id: &str, n: u64) -> Result<(), Fault> {
    let Some(thread) = threads::end(tx, HOST, id)? else { return Ok(()) };
    let (request, command) = (format!("w{n}"), "lease.release".to_owned());
    let (environment, body) = (thread.environment, json!({ "lease": thread.lease }));
    operations::add(tx, &HostCommand { request, name: command, environment, body }, HOST)
}
