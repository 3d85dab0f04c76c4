//! Reads the state that the old generation stored for an OAuth connection.
//!
//! Pure. Values of any JSON type are converted to text as JavaScript does, since the original does
//! not check types.

use super::js::{self, Text, Value};

/// Members whose content is migrated in some form; all others are noted as lost.
const CARRIED: [&str; 12] = [
    "kind",
    "clientId",
    "clientIdSecretId",
    "clientIdSecretScopeId",
    "clientSecretSecretId",
    "clientSecretSecretScopeId",
    "tokenEndpoint",
    "authorizationEndpoint",
    "authorizationServerMetadataUrl",
    "scopes",
    "scope",
    "resource",
];

/// The parts of a connection's state that the plan needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// The grant is that of a machine: client credentials, without a user.
    pub(crate) machine: bool,
    pub(crate) client_id: Option<String>,
    /// Secret and scope that hold the client's id; none when the id is not kept as a secret.
    pub(crate) client_id_secret: Option<(String, Option<String>)>,
    /// Secret and scope that hold the client's secret.
    pub(crate) client_secret: Option<(String, Option<String>)>,
    pub(crate) token_url: String,
    pub(crate) authorization_url: String,
    pub(crate) metadata_url: Option<String>,
    pub(crate) resource: Option<String>,
    /// Scopes as the new generation writes them: each once, separated by spaces.
    pub(crate) scopes: Option<String>,
    /// Scopes as one text, as the state has them.
    pub(crate) scope: Option<String>,
    /// Names of members that are dropped, for the warning.
    pub(crate) lost: Vec<String>,
}

impl State {
    /// Reads a state; anything but an object counts as a state without members.
    ///
    /// # Errors
    /// The reason, as text for a fault.
    pub(crate) fn read(state: &Value) -> Result<Self, String> {
        let machine = state.has("kind", "client-credentials");
        Ok(Self {
            machine,
            client_id: column(state, "clientId"),
            client_id_secret: state
                .present("clientIdSecretId")
                .map(|id| (plain(id), truthy(state, "clientIdSecretScopeId"))),
            client_secret: truthy(state, "clientSecretSecretId")
                .map(|id| (id, truthy(state, "clientSecretSecretScopeId"))),
            token_url: column(state, "tokenEndpoint").unwrap_or_default(),
            authorization_url: authorization_url(state, machine),
            metadata_url: trimmed(state, "authorizationServerMetadataUrl"),
            resource: state.present("resource").map(|value| value.to_text().written().into_owned()),
            scopes: scopes(state)?,
            scope: state.text("scope").map(|scope| scope.lossy().into_owned()),
            lost: lost(state),
        })
    }

    /// Name of the grant in the new database.
    pub(crate) fn grant(&self) -> &'static str {
        if self.machine { "client_credentials" } else { "authorization_code" }
    }
}

fn plain(value: &Value) -> String {
    value.to_text().lossy().into_owned()
}

fn truthy(state: &Value, member: &str) -> Option<String> {
    state.get(member).filter(|value| value.truthy()).map(plain)
}

/// Returns a member in the form that goes into a column.
fn column(state: &Value, member: &str) -> Option<String> {
    let value = state.get(member).filter(|value| value.truthy())?;
    Some(value.to_text().written().into_owned())
}

fn trimmed(value: &Value, member: &str) -> Option<String> {
    let text = value.text(member)?.trimmed();
    Some(text.written().into_owned()).filter(|text| !text.is_empty())
}

/// Returns the address where a user authorizes, from the state alone. An explicit address comes
/// first. Without one it is derived from a token address that ends in `/token`, if the issuer is
/// absent or is a bare host above it. Otherwise it is the issuer, perhaps empty.
fn authorization_url(state: &Value, machine: bool) -> String {
    let described = state.get("authorizationServerMetadata");
    let stated = trimmed(state, "authorizationEndpoint")
        .or_else(|| trimmed(described?, "authorization_endpoint"));
    if let Some(url) = stated {
        return url;
    }
    let issuer = trimmed(state, "authorizationServerUrl").or_else(|| trimmed(state, "issuerUrl"));
    let issuer = issuer.unwrap_or_default();
    let token_url = trimmed(state, "tokenEndpoint").unwrap_or_default();
    if machine || !(issuer.is_empty() || is_bare(&issuer)) {
        return issuer;
    }
    let below = format!("{}/", issuer.trim_end_matches('/'));
    match token_url.strip_suffix("/token") {
        Some(base) if issuer.is_empty() || token_url.starts_with(&below) => {
            format!("{base}/authorize")
        }
        _ => issuer,
    }
}

/// Returns whether an address is a host without a path.
fn is_bare(url: &str) -> bool {
    let rest = ["https://", "http://"].iter().find_map(|scheme| {
        let (head, rest) = url.split_at_checked(scheme.len())?;
        head.eq_ignore_ascii_case(scheme).then_some(rest)
    });
    rest.is_some_and(|rest| {
        let host = rest.strip_suffix('/').unwrap_or(rest);
        !host.is_empty() && !host.contains('/')
    })
}

fn scopes(state: &Value) -> Result<Option<String>, String> {
    let listed: Vec<Text> = match state.get("scopes") {
        // As the original: what has no length, such as a number, is dropped like an empty text.
        Some(Value::Array(array)) if !array.items().is_empty() => {
            let filled = |scope: &&Value| match scope {
                Value::String(text) => !text.is_empty(),
                Value::Array(array) => !array.items().is_empty(),
                _ => false,
            };
            array.items().iter().filter(filled).map(Value::to_text).collect()
        }
        Some(Value::String(text)) if !text.is_empty() => {
            return Err("`scopes` is a string, not a list".to_owned());
        }
        _ => {
            let Some(scope) = state.text("scope") else { return Ok(None) };
            let words: Vec<Text> = scope
                .lossy()
                .split(js::is_space)
                .filter(|word| !word.is_empty())
                .map(Text::from)
                .collect();
            if words.is_empty() {
                return Ok(None);
            }
            words
        }
    };
    let mut once: Vec<Text> = Vec::new();
    for scope in listed {
        if !once.contains(&scope) {
            once.push(scope);
        }
    }
    Ok(Some(Text::join(&once, b' ').written().into_owned()))
}

fn lost(state: &Value) -> Vec<String> {
    let Some(object) = state.as_object() else {
        return if state.truthy() { vec!["the whole value".to_owned()] } else { Vec::new() };
    };
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(array) => array.items().is_empty(),
        _ => false,
    };
    let gone = object
        .members()
        .iter()
        .filter(|(name, value)| !empty(value) && !CARRIED.iter().any(|carried| name == *carried));
    gone.map(|(name, _)| name.lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(text: &str) -> State {
        State::read(&crate::js::parse(text).expect("JSON").value).expect("a state")
    }

    #[test]
    fn authorization_url_matches_original() {
        for (text, expected) in [
            (r#"{"authorizationEndpoint":" https://a/x "}"#, "https://a/x"),
            (
                r#"{"authorizationServerMetadata":{"authorization_endpoint":"https://b"}}"#,
                "https://b",
            ),
            (r#"{"tokenEndpoint":"https://l/o/token"}"#, "https://l/o/authorize"),
            (
                r#"{"issuerUrl":"https://l","tokenEndpoint":"https://l/o/token"}"#,
                "https://l/o/authorize",
            ),
            (
                r#"{"issuerUrl":"https://l/","tokenEndpoint":"https://l/o/token"}"#,
                "https://l/o/authorize",
            ),
            (r#"{"issuerUrl":"https://l/x","tokenEndpoint":"https://l/x/token"}"#, "https://l/x"),
            (r#"{"issuerUrl":"https://l","tokenEndpoint":"https://m/token"}"#, "https://l"),
            (r#"{"kind":"client-credentials","tokenEndpoint":"https://l/token"}"#, ""),
            (r#""text""#, ""),
        ] {
            assert_eq!(state(text).authorization_url, expected, "{text}");
        }
    }

    #[test]
    fn scopes_are_joined_without_duplicates() {
        for (text, expected) in [
            (r#"{"scopes":["read","write","read",""]}"#, Some("read write")),
            (r#"{"scopes":[],"scope":" openid\temail \n profile "}"#, Some("openid email profile")),
            (r#"{"scopes":[""]}"#, Some("")),
            (r#"{"scopes":["a",5,true,{},"b"]}"#, Some("a b")),
            (r#"{"scopes":["a\ud800","b\ud800c"]}"#, Some("a\u{fffd} b")),
            (r#"{"scope":"  "}"#, None),
            (r#"{"scopes":{"a":1}}"#, None),
        ] {
            assert_eq!(state(text).scopes.as_deref(), expected, "{text}");
        }
        assert!(
            State::read(&crate::js::parse(r#"{"scopes":"a b"}"#).expect("JSON").value).is_err()
        );
    }
}
