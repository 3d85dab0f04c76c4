//! Converts a source's configuration to an integration's.
//!
//! Pure: JSON in, JSON out. The result also has the credential slots that bindings refer to and the
//! names of the members that are dropped.

use std::collections::{BTreeMap, BTreeSet};

use super::js::{Text, Value};
use super::slug;

/// Authentication of a source, which decides the member `auth` of the new configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Auth {
    /// The source's kind has no member `auth`: every kind but MCP and GraphQL.
    Unsaid,
    /// The source needs no credentials, or none by OAuth.
    Anonymous,
    /// The source needs an OAuth token.
    Delegated,
}

/// The variable of a template that a credential slot fills.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Slug of the template that contains the variable.
    pub(crate) method: String,
    pub(crate) variable: String,
}

/// A configuration in the new form, with what the plan needs of it.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) value: Value,
    pub(crate) slots: BTreeMap<String, Slot>,
    pub(crate) auth: Auth,
    /// Address whose OAuth resource is looked up; only for MCP and GraphQL sources.
    pub(crate) endpoint: Option<String>,
    /// Paths of members that are dropped, for the warning.
    pub(crate) lost: Vec<String>,
}

/// The parts of a configuration while they are collected.
#[derive(Default)]
struct Template {
    headers: Vec<(Text, Value)>,
    query: Vec<(Text, Value)>,
    placements: Vec<Placement>,
    slots: BTreeMap<String, Slot>,
    methods: Vec<Value>,
    lost: Vec<String>,
}

struct Placement {
    query: bool,
    name: Text,
    prefix: Option<Value>,
    slot: Option<String>,
}

/// Converts a source's stored data to the new form.
///
/// # Errors
/// The reason, as text for a fault.
pub(crate) fn migrate(kind: &str, data: &Value) -> Result<Config, String> {
    if matches!(data, Value::Null) {
        return Err("the configuration is empty".to_owned());
    }
    let input = data.present("config").unwrap_or(data);
    let mut template = Template::default();
    template.entries(input, "headers", false)?;
    template.entries(input, "queryParams", true)?;
    template.method();
    let copied: &[&str] = match kind {
        "mcp" => &["endpoint", "transport", "remoteTransport"],
        "graphql" => &["endpoint", "name"],
        _ => &["spec", "sourceUrl", "baseUrl", "googleDiscoveryUrls"],
    };
    let auth = match kind {
        "mcp" | "graphql" => template.auth(input),
        _ => template.oauth2(input)?,
    };
    template.unread(data, input, copied, auth);
    Ok(template.finish(input, copied, auth))
}

impl Template {
    /// Reads headers or query parameters: text stays static, every other value stands for a
    /// credential.
    fn entries(&mut self, input: &Value, member: &str, query: bool) -> Result<(), String> {
        for (name, value) in entries_of(input.get(member)) {
            match value {
                Value::Null => {
                    let name = name.lossy();
                    return Err(format!("the member `{name}` of `{member}` is null"));
                }
                Value::String(_) if query => self.query.push((name, value)),
                Value::String(_) => self.headers.push((name, value)),
                value => self.place(member, name, &value, query),
            }
        }
        Ok(())
    }

    fn place(&mut self, member: &str, name: Text, value: &Value, query: bool) {
        let binding = value.has("kind", "binding");
        // The slot is the name of a property, and JavaScript makes a text of any value that is one.
        let slot = value.get("slot").filter(|slot| binding && slot.truthy()).map(Value::to_text);
        let known = ["kind", "slot", "prefix"];
        let other = value.as_object().is_none_or(|o| {
            o.members()
                .iter()
                .any(|(name, v)| !matches!(v, Value::Null) && !known.iter().any(|k| name == *k))
        });
        if !binding || other {
            self.lost.push(format!("{member}.{}", name.lossy()));
        }
        self.placements.push(Placement {
            query,
            name,
            prefix: value.get("prefix").filter(|prefix| prefix.truthy() && long(prefix)).cloned(),
            // A slot with a lone half equals that of no binding, which comes from a column.
            slot: slot.as_ref().and_then(Text::as_str).map(str::to_owned),
        });
    }

    /// Builds the template from all placements: one method `apiKey`.
    fn method(&mut self) {
        let single = self.placements.len() == 1;
        let (mut headers, mut query) = (Vec::new(), Vec::new());
        let mut taken = BTreeSet::new();
        for placement in std::mem::take(&mut self.placements) {
            let name = slug::variable(&placement.name.lossy());
            let name = if name.is_empty() { "input" } else { &name };
            // As the original: a single placement has the variable `token`, several have their own
            // names.
            let variable = if single { "token".to_owned() } else { slug::unique(name, &mut taken) };
            let part =
                object(vec![("type", "variable".into()), ("name", variable.as_str().into())]);
            let parts = Value::array(placement.prefix.into_iter().chain([part]).collect());
            if placement.query { &mut query } else { &mut headers }.push((placement.name, parts));
            if let Some(slot) = placement.slot {
                self.slots.insert(slot, Slot { method: "apiKey".to_owned(), variable });
            }
        }
        if headers.is_empty() && query.is_empty() {
            return;
        }
        let mut method = vec![("slug".into(), "apiKey".into()), ("type".into(), "apiKey".into())];
        push_object(&mut method, "headers", headers);
        push_object(&mut method, "queryParams", query);
        self.methods.push(Value::object(method));
    }

    /// Reads the OAuth method of an `OpenAPI` source.
    fn oauth2(&mut self, input: &Value) -> Result<Auth, String> {
        let Some(oauth2) = input.get("oauth2").filter(|oauth2| oauth2.truthy()) else {
            return Ok(Auth::Unsaid);
        };
        let Some(scheme) = oauth2.text("securitySchemeName") else {
            return Err("`oauth2` has no `securitySchemeName`".to_owned());
        };
        let url = oauth2.present("authorizationUrl").cloned().unwrap_or_else(|| "".into());
        let scopes = oauth2.present("scopes").cloned().unwrap_or_else(|| Value::array(Vec::new()));
        let mut method = vec![
            ("slug".into(), Value::String(scheme.clone())),
            ("type".into(), "oauth".into()),
            ("authorizationUrl".into(), url),
        ];
        if let Some(token_url) = oauth2.get("tokenUrl") {
            method.push(("tokenUrl".into(), token_url.clone()));
        }
        method.push(("scopes".into(), scopes));
        self.methods.push(Value::object(method));
        let lower = scheme.lossy().to_lowercase();
        // A slot spells the scheme's name with dashes or with its own underscores.
        for name in [lower.replace('_', "-"), lower] {
            let slot = Slot { method: scheme.written().into_owned(), variable: "token".to_owned() };
            self.slots.insert(format!("oauth2:{name}:connection"), slot);
        }
        self.lose(oauth2, "oauth2.", &["flow", "issuerUrl"]);
        Ok(Auth::Unsaid)
    }

    /// Reads `auth` of an MCP or GraphQL source. `auth` of another kind than OAuth is dropped, and
    /// its members are noted.
    fn auth(&mut self, input: &Value) -> Auth {
        let Some(auth) = input.get("auth") else { return Auth::Anonymous };
        self.lose(auth, "auth.", &["headerName", "secretSlot", "prefix"]);
        if !auth.has("kind", "oauth2") {
            return Auth::Anonymous;
        }
        let slot = auth.get("connectionSlot").filter(|slot| slot.truthy()).map(Value::to_text);
        if let Some(slot) = slot {
            let stands = Slot { method: "oauth2".to_owned(), variable: "token".to_owned() };
            self.slots.extend(slot.as_str().map(|slot| (slot.to_owned(), stands)));
        }
        Auth::Delegated
    }

    fn lose(&mut self, value: &Value, path: &str, members: &[&str]) {
        let there = members.iter().filter(|member| value.present(member).is_some());
        self.lost.extend(there.map(|member| format!("{path}{member}")));
    }

    /// Notes the members that no method above reads.
    fn unread(&mut self, data: &Value, input: &Value, copied: &[&str], auth: Auth) {
        let own = if auth == Auth::Unsaid { "oauth2" } else { "auth" };
        let read = ["config", "headers", "queryParams", own, "namespace", "scope", "name"];
        for value in [data, input] {
            let members = value.as_object().map_or(&[][..], |o| o.members());
            for (name, member) in members {
                let known = read.iter().chain(copied).any(|k| name == *k);
                let name = name.lossy().into_owned();
                if !known && !matches!(member, Value::Null) && !self.lost.contains(&name) {
                    self.lost.push(name);
                }
            }
        }
    }

    fn finish(self, input: &Value, copied: &[&str], auth: Auth) -> Config {
        let mut members: Vec<(Text, Value)> = Vec::new();
        for name in copied {
            if let Some(value) = input.get(name) {
                members.push(((*name).into(), value.clone()));
            }
        }
        push_object(&mut members, "headers", self.headers);
        push_object(&mut members, "queryParams", self.query);
        let kind = match auth {
            Auth::Unsaid => None,
            Auth::Anonymous => Some("none"),
            Auth::Delegated => Some("oauth2"),
        };
        if let Some(kind) = kind {
            members.push(("auth".into(), object(vec![("kind", kind.into())])));
        }
        if !self.methods.is_empty() {
            members.push(("authenticationTemplate".into(), Value::array(self.methods)));
        }
        let endpoint = input.text("endpoint").filter(|_| auth != Auth::Unsaid);
        Config {
            value: Value::object(members),
            slots: self.slots,
            auth,
            endpoint: endpoint.map(|e| e.lossy().into_owned()).filter(|e| !e.is_empty()),
            lost: self.lost,
        }
    }
}

/// Returns an object of these members.
pub(crate) fn object(members: Vec<(&str, Value)>) -> Value {
    Value::object(members.into_iter().map(|(name, value)| (name.into(), value)).collect())
}

fn push_object(members: &mut Vec<(Text, Value)>, name: &str, entries: Vec<(Text, Value)>) {
    if !entries.is_empty() {
        members.push((name.into(), Value::object(entries)));
    }
}

/// Returns the entries over which JavaScript iterates: members of an object, items of an array,
/// code units of a string. The original does not check the type, so all three give headers.
fn entries_of(value: Option<&Value>) -> Vec<(Text, Value)> {
    let numbered = |(at, item): (usize, Value)| (at.to_string().into(), item);
    match value {
        Some(Value::Object(object)) => object.members().to_vec(),
        Some(Value::Array(array)) => {
            array.items().iter().cloned().enumerate().map(numbered).collect()
        }
        Some(Value::String(text)) => {
            text.units().into_iter().map(Value::String).enumerate().map(numbered).collect()
        }
        _ => Vec::new(),
    }
}

/// Returns whether JavaScript finds a length above zero, which an object may have as a member.
fn long(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.is_empty(),
        Value::Array(array) => !array.items().is_empty(),
        Value::Object(object) => match object.get("length") {
            Some(Value::Number(n)) => *n > 0.0,
            Some(Value::Bool(is)) => *is,
            Some(Value::String(text)) => super::js::to_number(&text.lossy()) > 0.0,
            _ => false,
        },
        _ => false,
    }
}
