//! Commands to hosts: kept until the host answers, and sent again after every interruption.

use rusqlite::OptionalExtension as _;
use rusqlite::{Row, Transaction};
use serde_json::{Value, json};

use super::catalog::{fault, now};
use crate::core::{Code, Fault};
use crate::session::connector::random_name;
use crate::session::protocol::HostCommand;

/// Bound on the open operations of one host.
const OPEN_MAX: i64 = 2_048;

/// One row of the table of operations; times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Operation {
    pub(super) id: String,
    pub(super) host: String,
    pub(super) environment: String,
    pub(super) command: String,
    pub(super) body: Value,
    pub(super) status: Option<u16>,
    pub(super) answer: Option<Value>,
    pub(super) created_at: i64,
    pub(super) ended_at: Option<i64>,
}

pub(super) const COLUMNS: &str = "SELECT id, host, environment, command, body, status, answer, created_at, \
                       ended_at FROM operations";

pub(super) fn of_row(row: &Row<'_>) -> rusqlite::Result<Operation> {
    let (body, answer): (String, Option<String>) = (row.get(4)?, row.get(6)?);
    Ok(Operation {
        id: row.get(0)?,
        host: row.get(1)?,
        environment: row.get(2)?,
        command: row.get(3)?,
        body: serde_json::from_str(&body).unwrap_or_default(),
        status: row.get(5)?,
        answer: answer.and_then(|text| serde_json::from_str(&text).ok()),
        created_at: row.get(7)?,
        ended_at: row.get(8)?,
    })
}

impl Operation {
    /// Returns the command in the form that is sent to the host.
    pub(super) fn to_command(&self) -> HostCommand {
        HostCommand {
            request: self.id.clone(),
            name: self.command.clone(),
            environment: self.environment.clone(),
            body: self.body.clone(),
        }
    }
}

/// Returns whether this operation exists already. A key that was used for another is refused.
pub(super) fn is_known(
    tx: &Transaction<'_>,
    command: &HostCommand,
    host: &str,
) -> Result<bool, Fault> {
    let Some(known) = find(tx, &command.request)? else { return Ok(false) };
    let same = known.host == host
        && known.command == command.name
        && known.environment == command.environment;
    if same {
        return Ok(true);
    }
    let message =
        format!("this Idempotency-Key was used for {} of {}", known.command, known.environment);
    let hint = "use a new Idempotency-Key for a new request";
    Err(Fault::new(Code::IdempotencyConflict, message, hint))
}

/// Adds an operation; an id that exists already changes nothing.
pub(super) fn add(tx: &Transaction<'_>, command: &HostCommand, host: &str) -> Result<(), Fault> {
    let count = "SELECT count(*) FROM operations WHERE host = ?1 AND status IS NULL";
    let count: i64 = tx.query_row(count, [host], |row| row.get(0)).map_err(fault)?;
    if count >= OPEN_MAX {
        let message = format!("{count} operations are in progress on {host}");
        return Err(Fault::new(Code::LimitReached, message, "retry when one has ended").transient());
    }
    let put = "INSERT INTO operations (id, host, environment, command, body, created_at, n)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, (SELECT coalesce(max(n), 0) + 1 FROM operations))
               ON CONFLICT (id) DO NOTHING";
    let (o, body) = (command, command.body.to_string());
    tx.execute(put, (&o.request, host, &o.environment, &o.name, body, now())).map_err(fault)?;
    Ok(())
}

/// Returns the operation with this id.
pub(super) fn find(tx: &Transaction<'_>, id: &str) -> Result<Option<Operation>, Fault> {
    tx.query_row(&format!("{COLUMNS} WHERE id = ?1"), [id], of_row).optional().map_err(fault)
}

/// Lists the operations that a host has not answered yet, oldest first.
pub(super) fn open_operations(tx: &Transaction<'_>, host: &str) -> Result<Vec<Operation>, Fault> {
    let find = format!("{COLUMNS} WHERE host = ?1 AND status IS NULL ORDER BY n");
    let mut find = tx.prepare_cached(&find).map_err(fault)?;
    let rows = find.query_map([host], of_row).map_err(fault)?;
    rows.collect::<Result<_, _>>().map_err(fault)
}

/// Returns whether a request for this lease is open.
pub(super) fn claims(tx: &Transaction<'_>, host: &str, lease: &str) -> Result<bool, Fault> {
    let find = "SELECT EXISTS (SELECT 1 FROM operations WHERE host = ?1 AND status IS NULL
                AND command = 'lease.acquire' AND json_extract(body, '$.id') = ?2)";
    tx.query_row(find, [host, lease], |row| row.get(0)).map_err(fault)
}

/// Adds an operation that releases a lease without a thread. If too many operations are open, it
/// adds none, and the lease expires later.
pub(super) fn release_lease(
    tx: &Transaction<'_>,
    host: &str,
    environment: &str,
    lease: &str,
) -> Result<(), Fault> {
    let find = "SELECT EXISTS (SELECT 1 FROM operations WHERE host = ?1 AND status IS NULL
                AND command = 'lease.release' AND json_extract(body, '$.lease') = ?2)";
    let known: bool = tx.query_row(find, [host, lease], |row| row.get(0)).map_err(fault)?;
    if known {
        return Ok(());
    }
    let (request, command) = (random_name(), "lease.release".to_owned());
    let (environment, body) = (environment.to_owned(), json!({ "lease": lease }));
    match add(tx, &HostCommand { request, name: command, environment, body }, host) {
        Err(fault) if fault.code == Code::LimitReached => Ok(()),
        added => added,
    }
}

/// Ends the open destroys of an environment as successful, before a new incarnation is requested.
/// The earlier one is destroyed by then, and a destroy sent again would concern the new one.
pub(super) fn overtake(tx: &Transaction<'_>, host: &str, environment: &str) -> Result<(), Fault> {
    let answer = json!({ "id": environment, "phase": "tombstoned" }).to_string();
    let put = "UPDATE operations SET status = 200, answer = ?3, ended_at = ?4
               WHERE host = ?1 AND environment = ?2 AND status IS NULL
               AND command = 'environment.destroy'";
    tx.execute(put, (host, environment, answer, now())).map_err(fault)?;
    Ok(())
}

pub(super) fn host_command(
    request: &str,
    command: &str,
    environment: &str,
    body: Value,
) -> HostCommand {
    HostCommand {
        request: request.to_owned(),
        name: command.to_owned(),
        environment: environment.to_owned(),
        body,
    }
}
