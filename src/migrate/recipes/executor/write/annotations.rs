//! Adds the server's own facts about a tool to the annotations of MCP tools. Pure.

use crate::config::object;
use crate::js::{Text, Value};
use crate::snapshot::Upstream;

/// Returns the annotations with the server's facts; none when they have them already and stay as
/// they are.
pub(super) fn stamped(old: &Value, upstream: &Upstream) -> Option<Value> {
    if old.get("mcp").is_some_and(|mcp| mcp.as_object().is_some()) {
        return None;
    }
    let stated = upstream.annotations.as_ref();
    let destructive = stated.and_then(|a| a.get("destructiveHint"));
    let destructive = matches!(destructive, Some(Value::Bool(true)));
    let mut members: Vec<(Text, Value)> =
        old.as_object().map_or_else(Vec::new, |object| object.members().to_vec());
    let approval = old.present("requiresApproval").cloned();
    members.push(("requiresApproval".into(), approval.unwrap_or(Value::Bool(destructive))));
    if destructive && old.get("approvalDescription").is_none() {
        let title = stated.and_then(|a| a.present("title")).cloned();
        let title = title.unwrap_or_else(|| Value::String(upstream.name.clone()));
        members.push(("approvalDescription".into(), title));
    }
    let mut mcp = vec![("toolName", Value::String(upstream.name.clone()))];
    if let Some(stated) = stated {
        mcp.push(("upstream", stated.clone()));
    }
    members.push(("mcp".into(), object(mcp)));
    Some(Value::object(members))
}
