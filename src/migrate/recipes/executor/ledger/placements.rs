//! Rewrites authentication templates to their current form: a list of placements instead of header
//! maps.
//!
//! A configuration whose new form would be invalid stays unchanged as a whole.

use rusqlite::Connection;

use super::configs::{self, Configured, without};
use crate::config::object;
use crate::js::{Text, Value};
use groundskeeper_migrate::Fault;
use groundskeeper_migrate::recipe::Work;

const TEMPLATE: &str = "authenticationTemplate";
const TRANSPORTS: [&str; 3] = ["streamable-http", "sse", "auto"];

/// Rewrites all integrations of the plugins that have templates.
pub(super) fn rewrite(db: &Connection, _work: &Work<'_>) -> Result<(), Fault> {
    let rules: [(&str, fn(&Value) -> Option<Value>); 3] =
        [("openapi", openapi), ("mcp", mcp), ("graphql", graphql)];
    for (plugin, rule) in rules {
        configs::each(db, plugin, |Configured { row, config, .. }| match rule(&config) {
            Some(new) => configs::replace(db, row, &new),
            None => Ok(()),
        })?;
    }
    Ok(())
}

fn openapi(config: &Value) -> Option<Value> {
    if config.get("spec").is_none() && config.get("specHash").is_none() {
        return None;
    }
    let entries = config.get(TEMPLATE)?.as_array()?;
    let entries: Vec<Value> =
        entries.iter().map(|e| oauth(e).or_else(|| apikey(e))).collect::<Option<_>>()?;
    let urls = |e: &Value| ["authorizationUrl", "tokenUrl"].iter().all(|n| e.text(n).is_some());
    let scopes = |e: &Value| {
        e.get("scopes")
            .and_then(Value::as_array)
            .is_some_and(|s| s.iter().all(|s| s.as_text().is_some()))
    };
    let sound = |e: &Value| !e.has("kind", "oauth2") || (urls(e) && scopes(e));
    let texts = ["specHash", "sourceUrl", "baseUrl"];
    let whole = entries.iter().all(sound)
        && texts.iter().all(|name| config.get(name).is_none_or(|v| v.as_text().is_some()))
        && maps(config);
    whole.then(|| with_template(config, &[], entries))
}

fn mcp(config: &Value) -> Option<Value> {
    let transport = config.get("remoteTransport");
    let known = |t: &Value| TRANSPORTS.iter().any(|name| t.as_text().is_some_and(|t| t == *name));
    let whole = config.has("transport", "remote")
        && config.text("endpoint").is_some()
        && transport.is_none_or(known)
        && maps(config);
    if !whole {
        return None;
    }
    match config.get(TEMPLATE) {
        Some(entries) => Some(with_template(config, &[], canonical(entries)?)),
        None => shorthand(config),
    }
}

fn graphql(config: &Value) -> Option<Value> {
    let whole = config.text("endpoint").is_some()
        && config.get("transport").is_none()
        && config.text("name").is_some()
        && maps(config);
    if !whole {
        return None;
    }
    let Some(entries) = config.get(TEMPLATE) else { return shorthand(config) };
    let mut entries = canonical(entries)?;
    let oauth = config.get("auth").is_some_and(|auth| auth.has("kind", "oauth2"));
    if oauth && !entries.iter().any(|e| e.has("kind", "oauth2")) {
        entries.push(method("oauth2"));
    }
    Some(with_template(config, &["auth"], entries))
}

/// Returns the configuration with `auth` turned into a template with one entry; none for an unknown
/// kind.
fn shorthand(config: &Value) -> Option<Value> {
    let kind = match config.get("auth") {
        None => "none",
        Some(auth) if auth.has("kind", "none") => "none",
        Some(auth) if auth.has("kind", "oauth2") => "oauth2",
        Some(_) => return None,
    };
    Some(with_template(config, &["auth"], vec![method(kind)]))
}

fn method(kind: &str) -> Value {
    object(vec![("slug", kind.into()), ("kind", kind.into())])
}

/// Returns the entries of a template in their current form; none if one of them is unknown.
fn canonical(entries: &Value) -> Option<Vec<Value>> {
    let keep = |e: &Value| e.has("kind", "none").then(|| e.clone());
    entries.as_array()?.iter().map(|e| keep(e).or_else(|| apikey(e))).collect()
}

/// Converts an OAuth entry of an `OpenAPI` source; none for other entries.
fn oauth(entry: &Value) -> Option<Value> {
    if !entry.has("type", "oauth") || entry.get("kind").is_some() {
        return None;
    }
    let mut members = without(entry, &["type"]);
    members.push(("kind".into(), "oauth2".into()));
    Some(Value::object(members))
}

/// Returns an entry in its current form: unchanged if it already is, converted if it is one of
/// keys.
fn apikey(entry: &Value) -> Option<Value> {
    if entry.has("kind", "apikey") || entry.has("kind", "oauth2") {
        return Some(entry.clone());
    }
    if !entry.has("type", "apiKey") {
        return None;
    }
    let mut placements = Vec::new();
    for (member, carrier) in [("headers", "header"), ("queryParams", "query")] {
        let Some(values) = entry.get(member) else { continue };
        for (name, value) in values.as_object()?.members() {
            placements.push(placement(carrier, name, value)?);
        }
    }
    Some(object(vec![
        ("slug", entry.get("slug")?.clone()),
        ("kind", "apikey".into()),
        ("placements", Value::array(placements)),
    ]))
}

/// Converts one header or parameter: the text before its variable, and the variable. Text behind
/// the variable is dropped.
fn placement(carrier: &str, name: &Text, value: &Value) -> Option<Value> {
    let mut before = Text::from("");
    let mut variable = None;
    for part in value.as_array()? {
        if let Some(text) = part.as_text() {
            if variable.is_none() {
                before = before.followed_by(text);
            }
        } else if part.has("type", "variable") {
            let name = part.text("name")?;
            variable.get_or_insert(name);
        } else {
            return None;
        }
    }
    let mut members = vec![("carrier", carrier.into()), ("name", Value::String(name.clone()))];
    match variable {
        None => members.push(("literal", Value::String(before))),
        Some(variable) => {
            if !before.is_empty() {
                members.push(("prefix", Value::String(before)));
            }
            if variable != "token" {
                members.push(("variable", Value::String(variable.clone())));
            }
        }
    }
    Some(object(members))
}

/// Returns whether the static headers and parameters, if any, are all text.
fn maps(config: &Value) -> bool {
    let texts = |v: &Value| {
        v.as_object().is_some_and(|o| o.members().iter().all(|(_, v)| v.as_text().is_some()))
    };
    ["headers", "queryParams"].iter().all(|name| config.get(name).is_none_or(texts))
}

fn with_template(config: &Value, gone: &[&str], entries: Vec<Value>) -> Value {
    let mut members = without(config, gone);
    members.push((TEMPLATE.into(), Value::array(entries)));
    Value::object(members)
}
