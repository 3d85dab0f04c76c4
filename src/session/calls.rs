//! Commands as calls of use cases: each kind with its typed arguments. It decides no order.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::core::event::{Actor, Origin};
use crate::core::{Code, EnvironmentId, Fault, LeaseId, RequestId};
use crate::http::problem::invalid;
use crate::http::{Error, body};
use crate::service::outcome::Outcome;
use crate::service::requests::{environment_id, lease_id};
use crate::service::types::removal::RemoveQuery;
use crate::service::{App, archives, environments, leases, runs, status};
use crate::session::answers::{Reply, refusal, reply};
use crate::session::protocol::{Answer, HostCommand};
use crate::session::scheduler::Access;

/// Longest wait for an operation, in seconds.
const WAIT_SECONDS: u64 = 24 * 3_600;
/// Bound on a patch in bytes if the command gives none.
const PATCH_BYTES: u64 = 256 * 1024;
/// Bound on a patch in bytes that a command may give.
const PATCH_BYTES_MAX: u64 = 1 << 20;

/// The use case of a command, with its arguments. A body is parsed when its command is carried out.
#[derive(Debug)]
pub(super) enum Call {
    Provision(Value),
    Cancel(EnvironmentId),
    Destroy { id: EnvironmentId, force: bool, retire: bool, incarnation: Option<u64> },
    Restore(EnvironmentId, Value),
    Status(EnvironmentId),
    Diff { id: EnvironmentId, head: bool, bytes: u32 },
    Lease(EnvironmentId, Value),
    Release(Option<LeaseId>),
    Exec(EnvironmentId, Value),
}

/// Returns the actor of everything that a control server asks for.
pub(super) fn actor() -> Actor {
    Actor { origin: Origin::Session, uid: rustix::process::geteuid().as_raw(), pid: 0 }
}

impl Call {
    /// Returns the use case of a command.
    ///
    /// # Errors
    /// `Code::UnsupportedCommand` for an unknown kind; `Code::InvalidRequest` if the command names
    /// no environment.
    pub(super) fn of(command: &HostCommand) -> Result<Self, Fault> {
        let id = || environment_id(named(command)?);
        let flag = |name: &str| command.body.get(name).and_then(Value::as_bool).unwrap_or(false);
        let number = |name: &str| command.body.get(name).and_then(Value::as_u64);
        Ok(match command.name.as_str() {
            "environment.provision" => {
                let mut fields = fields(command);
                fields.insert("id".to_owned(), json!(named(command)?));
                Self::Provision(fields.into())
            }
            "environment.cancel" => Self::Cancel(id()?),
            "environment.destroy" => Self::Destroy {
                id: id()?,
                force: flag("force"),
                retire: flag("retire"),
                incarnation: number("incarnation"),
            },
            "environment.restore" => Self::Restore(id()?, fields(command).into()),
            "workspace.status" => Self::Status(id()?),
            "workspace.diff" => {
                let bytes = number("bytes").unwrap_or(PATCH_BYTES).min(PATCH_BYTES_MAX);
                Self::Diff { id: id()?, head: flag("head"), bytes: bytes as u32 }
            }
            "lease.acquire" => Self::Lease(id()?, fields(command).into()),
            "lease.release" => {
                let lease = command.body.get("lease").and_then(Value::as_str);
                Self::Release(lease.map(lease_id).transpose()?)
            }
            "exec" => Self::Exec(id()?, fields(command).into()),
            other => {
                let message = format!("unknown command {other:?}");
                let hint = "update this daemon; the server may be newer";
                return Err(Fault::new(Code::UnsupportedCommand, message, hint));
            }
        })
    }

    /// Returns how the command shares the queue of its environment.
    pub(super) fn access(&self) -> Access {
        match self {
            Self::Cancel(_) => Access::Overtake,
            Self::Status(_) | Self::Diff { .. } | Self::Exec(..) => Access::Read,
            Self::Provision(_)
            | Self::Destroy { .. }
            | Self::Restore(..)
            | Self::Lease(..)
            | Self::Release(_) => Access::Write,
        }
    }

    /// Carries out the command and returns its answer.
    pub(super) async fn answer(self, app: &Arc<App>, request: String) -> Answer {
        let replied = match RequestId::parse(&request) {
            Ok(id) => self.perform(app, id).await,
            Err(e) => Err(invalid(format!("the request id is invalid: {e}"))),
        };
        match replied {
            Ok((status, body)) => Answer { request, status, body },
            Err(fault) => refusal(request, &fault),
        }
    }

    async fn perform(self, app: &Arc<App>, request: RequestId) -> Result<Reply, Fault> {
        let (wait, request) = (Some(WAIT_SECONDS), Some(request));
        match self {
            Self::Provision(body) => {
                let wanted = parse(&body)?;
                reply(environments::provision(app, actor(), request, wanted, wait).await?)
            }
            Self::Cancel(id) => reply(environments::cancel(app, id, actor()).await?),
            Self::Destroy { id, force, retire, incarnation } => {
                let incarnation = incarnation.map(incarnation_number).transpose()?;
                let query =
                    RemoveQuery { force, retire, incarnation, wait, ..RemoveQuery::default() };
                reply(environments::remove(app, id, actor(), request, query).await?)
            }
            Self::Restore(id, body) => {
                let wanted = parse(&body)?;
                reply(archives::restore(app, id, actor(), request, wanted, wait).await?)
            }
            Self::Status(id) => reply(Outcome::Done(status::one(app, &id).await?)),
            Self::Diff { id, head, bytes } => {
                reply(Outcome::Done(status::diff(app, &id, head, Some(bytes)).await?))
            }
            Self::Lease(id, body) => {
                let wanted = parse(&body)?;
                reply(leases::grant(app, id, actor(), request, wanted).await?)
            }
            Self::Release(Some(lease)) => {
                leases::release(app, lease).await?;
                reply(Outcome::<()>::Empty)
            }
            // Servers know this answer: the path of a lease without a name is no path of the API.
            Self::Release(None) => Err(Error::UnknownPath.into()),
            Self::Exec(id, body) => {
                let wanted = parse(&body)?;
                reply(Outcome::Done(runs::run(app, id, actor(), request, wanted).await?))
            }
        }
    }
}

/// Returns the name of the environment that a command is for.
fn named(command: &HostCommand) -> Result<&str, Fault> {
    if command.environment.is_empty() {
        return Err(invalid(format!("command {} names no environment", command.name)));
    }
    Ok(&command.environment)
}

/// Returns the parameters of a command without `path`, which is checked and never used.
fn fields(command: &HostCommand) -> Map<String, Value> {
    let mut fields = command.body.as_object().cloned().unwrap_or_default();
    fields.remove("path");
    fields
}

/// Parses a body within the bound of the API. It is parsed as text, so that a refusal names the
/// same position as that of a request.
fn parse<T: serde::de::DeserializeOwned>(body: &Value) -> Result<T, Fault> {
    let text = body.to_string();
    if text.len() > body::BODY_BYTES_MAX {
        return Err(Error::BodyTooLarge { limit: body::BODY_BYTES_MAX }.into());
    }
    Ok(body::parse(text.as_bytes())?)
}

/// Returns the number of an incarnation. The refusal is that of a query parameter.
fn incarnation_number(number: u64) -> Result<u32, Fault> {
    number.to_string().parse().map_err(|e| {
        let what = "invalid query: Failed to deserialize query string: incarnation";
        invalid(format!("{what}: {e}"))
    })
}

#[cfg(test)]
mod tests {
    use axum::extract::Query;

    use super::*;
    use crate::service::types::environment::NewEnvironment;
    use crate::service::types::lease::NewLease;

    fn host_command(command: &str, environment: &str, body: Value) -> HostCommand {
        let (request, command) = ("r".to_owned(), command.to_owned());
        HostCommand { request, name: command, environment: environment.to_owned(), body }
    }

    fn call(command: &str, environment: &str, body: Value) -> Result<Call, Fault> {
        Call::of(&host_command(command, environment, body))
    }

    #[test]
    fn commands_map_to_use_cases() {
        let made = call("environment.provision", "demo", json!({"repo": "/r", "path": "/x"}));
        let Ok(Call::Provision(body)) = made else { panic!("{made:?}") };
        assert_eq!(body, json!({"id": "demo", "repo": "/r"}));
        let gone = call("environment.destroy", "demo", json!({"force": true, "incarnation": 3}));
        let Ok(Call::Destroy { force, retire, incarnation, .. }) = gone else { panic!("{gone:?}") };
        assert_eq!((force, retire, incarnation), (true, false, Some(3)));
        let diff = call("workspace.diff", "demo", json!({"bytes": u64::MAX, "head": true}));
        assert!(matches!(diff, Ok(Call::Diff { head: true, bytes: 0x10_0000, .. })), "{diff:?}");
        let unknown = call("environment.dance", "demo", Value::Null).expect_err("unknown");
        assert_eq!(unknown.code, Code::UnsupportedCommand);
        for nameless in ["workspace.status", "environment.provision"] {
            let fault = call(nameless, "", Value::Null).expect_err("nameless");
            assert_eq!(fault.code, Code::InvalidRequest);
        }
        assert!(matches!(call("lease.release", "", json!({})), Ok(Call::Release(None))));
    }

    #[test]
    fn cancel_overtakes_and_queries_share() {
        let access = |command| call(command, "demo", Value::Null).map(|call| call.access()).ok();
        assert_eq!(access("environment.cancel"), Some(Access::Overtake));
        for reads in ["workspace.status", "workspace.diff", "exec"] {
            assert_eq!(access(reads), Some(Access::Read), "{reads}");
        }
        for writes in ["environment.destroy", "environment.restore", "lease.acquire"] {
            assert_eq!(access(writes), Some(Access::Write), "{writes}");
        }
    }

    /// A server's body has the bounds of a request body: size, and no unknown field.
    #[test]
    fn bodies_are_parsed_as_request_bodies() {
        let large = json!({"repo": "x".repeat(body::BODY_BYTES_MAX)});
        let fault = parse::<NewEnvironment>(&large).expect_err("too large");
        assert_eq!(fault.code, Code::RequestTooLarge);
        assert_eq!(fault.message, "the request is larger than 65536 bytes");
        let unknown = parse::<NewLease>(&json!({"seconds": 1, "x": 1})).expect_err("unknown");
        assert_eq!(unknown.code, Code::InvalidRequest);
        assert!(unknown.message.starts_with("invalid body: unknown field `x`"), "{unknown}");
        assert!(unknown.message.ends_with(" at line 1 column 16"), "{unknown}");
    }

    /// The text of a refused incarnation number is that of the query parameter.
    #[test]
    fn large_incarnation_is_refused_like_a_parameter() {
        assert_eq!(incarnation_number(u64::from(u32::MAX)).ok(), Some(u32::MAX));
        let fault = incarnation_number(1 << 32).expect_err("too large");
        let uri = "/?incarnation=4294967296".parse().expect("a uri");
        let query = Query::<RemoveQuery>::try_from_uri(&uri).expect_err("too large");
        assert_eq!(fault.message, format!("invalid query: {}", query.body_text()));
    }
}
