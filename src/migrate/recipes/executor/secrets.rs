//! Collects the secrets under their new ids from where the old generation keeps them. The engine
//! writes them; nothing here does.
//!
//! No value of a secret is ever printed, logged or put into a message.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::js::{self, Text, Value};
use super::losses::{Cause, Losses};
use super::plan::{Client, Plan};
use crate::plan::{SecretOp, SecretRef};
use groundskeeper_migrate::recipe::{Keychain, Secrets, Work};
use groundskeeper_migrate::{Code, Fault};

/// The application's environment variable for the service name of its keychain entries.
const SERVICE_SETTING: &str = "EXECUTOR_KEYCHAIN_SERVICE_NAME";
const SERVICE: &str = "executor";

/// The collected secrets, and the ids under which rows refer to them.
pub(crate) struct Collected {
    /// Members of the new secrets file; flat members of the old file are kept unchanged.
    flat: Vec<(Text, Value)>,
    /// New keychain entries: item id and value.
    keychain: Vec<(String, String)>,
    /// Old ids by item id, for secrets that stay with a provider that this program cannot write to.
    overrides: BTreeMap<String, String>,
    /// Ids of OAuth clients that were stored as secrets, in the order of the clients.
    pub(crate) client_ids: Vec<Option<String>>,
    pub(crate) warnings: Vec<String>,
}

/// Collects all secrets of a plan. A secret that has no value gives a warning.
///
/// # Errors
/// `migration_failed` when the secrets file is not a JSON object; `keychain_failed` when the
/// keychain does not answer.
pub(crate) fn collect(plan: &Plan, work: &Work<'_>, losses: &Losses) -> Result<Collected, Fault> {
    let file = File::read(work.secrets)?;
    let mut reader = Reader { file: &file, keychain: work.keychain, read: BTreeSet::new() };
    let mut collected = Collected {
        flat: file.flat(),
        keychain: Vec::new(),
        overrides: BTreeMap::new(),
        client_ids: Vec::new(),
        warnings: Vec::new(),
    };
    for op in &plan.ops {
        collected.op(op, &mut reader)?;
    }
    for client in &plan.clients {
        let id = collected.client_id(client, &mut reader)?;
        collected.client_ids.push(id);
    }
    // Without members no new file is written: the old one stays and nothing is lost.
    if !collected.flat.is_empty() {
        let read = reader.read;
        file.lose(&read, losses);
    }
    Ok(collected)
}

impl Collected {
    /// Returns the id under which the new generation finds a secret.
    pub(crate) fn item<'a>(&'a self, item: &'a str) -> &'a str {
        self.overrides.get(item).map_or(item, String::as_str)
    }

    /// Returns whether an item keeps its old id.
    pub(crate) fn is_overridden(&self, item: &str) -> bool {
        self.overrides.contains_key(item)
    }

    /// Returns the secrets that the engine writes beside the database.
    pub(crate) fn into_secrets(self) -> Secrets {
        let service = service();
        let entries = self.keychain.into_iter();
        let file = (!self.flat.is_empty()).then(|| {
            let mut text = js::pretty(&Value::object(self.flat));
            text.push('\n');
            text.into_bytes()
        });
        Secrets {
            file,
            keychain: entries.map(|(item, value)| (service.clone(), item, value)).collect(),
        }
    }

    fn op(&mut self, op: &SecretOp, reader: &mut Reader<'_>) -> Result<(), Fault> {
        // Another provider keeps the value itself and knows it only under its old id.
        if !matches!(op.provider.as_str(), "file" | "keychain") {
            if let Some(from) = &op.from {
                self.overrides.insert(op.item.clone(), from.id.clone());
            }
            return Ok(());
        }
        let value = match (&op.literal, &op.from) {
            (Some(literal), _) => Some(literal.as_str().into()),
            (None, Some(from)) => reader.value(from)?,
            (None, None) => None,
        };
        let Some(value) = value else {
            let from = op.from.as_ref();
            let id = from.map_or(&op.item, |from| &from.id);
            let provider = from.map_or(&op.provider, |from| &from.provider);
            self.warnings.push(format!(
                "Could not resolve local secret \"{id}\" from provider \"{provider}\"."
            ));
            return Ok(());
        };
        if op.provider == "file" {
            self.flat.push((op.item.as_str().into(), value));
        } else {
            self.keychain.push((op.item.clone(), text(&value)));
        }
        Ok(())
    }

    fn client_id(
        &mut self,
        client: &Client,
        reader: &mut Reader<'_>,
    ) -> Result<Option<String>, Fault> {
        let input = &client.input;
        let Some(from) = input.reference.as_ref().filter(|_| input.client_id.is_empty()) else {
            return Ok(None);
        };
        let value = reader.value(from)?;
        if value.is_none() {
            let SecretRef { id, provider, .. } = from;
            self.warnings.push(format!(
                "Could not resolve OAuth client id \"{id}\" from provider \"{provider}\"."
            ));
        }
        // As the original: a value that JavaScript takes for false is no client id.
        Ok(value.map(|value| if value.truthy() { text(&value) } else { String::new() }))
    }
}

/// Returns a value of the secrets file as text. The original passes on whatever is there; where
/// that must be text, as in the keychain, it fails on any other value.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.written().into_owned(),
        // The driver of the database writes a truth value as a number.
        Value::Bool(is) => i32::from(*is).to_string(),
        value => js::compact(value),
    }
}

/// Reads values of secrets, and records which ones were read from the file.
struct Reader<'a> {
    file: &'a File,
    keychain: &'a dyn Keychain,
    read: BTreeSet<(String, String)>,
}

impl Reader<'_> {
    fn value(&mut self, from: &SecretRef) -> Result<Option<Value>, Fault> {
        let SecretRef { scope, id, provider } = from;
        match provider.as_str() {
            "file" => {
                self.read.insert((scope.clone(), id.clone()));
                Ok(self.file.get(scope, id))
            }
            "keychain" => {
                let value = self.keychain.get(&format!("{}/{scope}", service()), id)?;
                Ok(value.map(|value| Value::String(value.into())))
            }
            _ => Ok(None),
        }
    }
}

/// The old secrets file: values by name, and by scope and name. A missing file is empty.
///
/// It is read as the original does: an object under a scope may hold values of any type, and
/// anything else under a scope, such as a list or a number, counts as if it were not there.
#[derive(Default)]
struct File {
    /// All members in the order of the file, which the new file keeps.
    members: Vec<(Text, Value)>,
    flat: BTreeMap<String, Value>,
    scopes: BTreeMap<String, BTreeMap<String, Value>>,
}

impl File {
    fn read(path: Option<&Path>) -> Result<Self, Fault> {
        let Some(bytes) = path.map(std::fs::read) else { return Ok(Self::default()) };
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => {
                let hint = "let this user read the file, or move it away to migrate without it";
                return Err(unreadable("cannot be read", hint).because(error));
            }
        };
        if [&b"\xef\xbb\xbf"[..], b"\xff\xfe", b"\xfe\xff"].iter().any(|m| bytes.starts_with(m)) {
            let hint = "save auth.json as UTF-8 without a byte order mark, then migrate again; \
                        nothing was changed";
            return Err(unreadable("is not JSON: it starts with a byte order mark", hint));
        }
        let parsed = crate::js::parse(&String::from_utf8_lossy(&bytes));
        let hint = "correct auth.json at that place, or move it away to migrate without its \
                    secrets; nothing was changed";
        let value = parsed.map_err(|e| unreadable("is not JSON", hint).because(e))?.value;
        let Value::Object(object) = &value else {
            let hint = "put the secrets into one JSON object, or `{}` to migrate without them; \
                        nothing was changed";
            return Err(unreadable("is not a JSON object", hint));
        };
        let mut file = Self { members: object.members().to_vec(), ..Self::default() };
        for (name, value) in &file.members {
            let name = name.lossy().into_owned();
            match value {
                Value::String(_) => drop(file.flat.insert(name, value.clone())),
                Value::Object(scope) => {
                    let values = scope.members().iter();
                    let named = values.map(|(id, value)| (id.lossy().into_owned(), value.clone()));
                    file.scopes.insert(name, named.collect());
                }
                _ => {}
            }
        }
        Ok(file)
    }

    /// Returns a value. If the scope has an object of its own, flat values are not searched.
    fn get(&self, scope: &str, id: &str) -> Option<Value> {
        match self.scopes.get(scope) {
            Some(values) => values.get(id).filter(|value| !matches!(value, Value::Null)).cloned(),
            None => self.flat.get(id).cloned(),
        }
    }

    fn flat(&self) -> Vec<(Text, Value)> {
        self.members.iter().filter(|(_, value)| value.as_text().is_some()).cloned().collect()
    }

    /// Notes every value that was not read and is not in the new file.
    fn lose(&self, read: &BTreeSet<(String, String)>, losses: &Losses) {
        for (name, member) in &self.members {
            let name = name.lossy();
            match member {
                Value::String(_) => {}
                Value::Object(values) => {
                    for (id, _) in values.members() {
                        let id = id.lossy();
                        if !read.contains(&(name.clone().into_owned(), id.clone().into_owned())) {
                            losses.note(Cause::SecretLost, || format!("{id:?} of scope {name:?}"));
                        }
                    }
                }
                _ => losses.note(Cause::SecretLost, || format!("{name:?} (not text)")),
            }
        }
    }
}

fn unreadable(why: &str, hint: &str) -> Fault {
    Fault::new(Code::MigrationFailed, format!("the secrets file auth.json {why}"), hint)
}

/// Returns the service name of the application's keychain entries.
fn service() -> String {
    let set = std::env::var(SERVICE_SETTING).unwrap_or_default();
    let set = js::trim(&set);
    if set.is_empty() { SERVICE } else { set }.to_owned()
}
