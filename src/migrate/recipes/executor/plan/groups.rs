//! Plans connections from credential bindings: one connection per scope and source that has
//! bindings. Pure. Texts of warnings are the original's.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Auth;
use crate::losses::{Cause, Losses};
use crate::plan::group::{Group, filled, is_client, used_by_state};
use crate::plan::stored_secrets::StoredSecrets;
use crate::plan::target::{Input, Target};
use crate::scope::Owner;
use crate::snapshot::{Binding, Connection, Snapshot, key};
use crate::{js, slug};

/// Lifetime of a machine's token whose row has no expiry, in milliseconds.
const MACHINE_TOKEN_MS: f64 = 3_600_000.0;

/// The connections, secrets and warnings that have been planned so far.
pub(super) struct Groups<'a> {
    snapshot: &'a Snapshot,
    tenant: &'a str,
    now_ms: i64,
    losses: &'a Losses,
    pub(super) secrets: StoredSecrets<'a>,
    connections: BTreeMap<String, &'a Connection>,
    sources: BTreeSet<String>,
    pub(super) targets: Vec<Target>,
    pub(super) warnings: Vec<String>,
    bound: BTreeSet<String>,
}

impl<'a> Groups<'a> {
    pub(super) fn new(
        snapshot: &'a Snapshot,
        tenant: &'a str,
        now_ms: i64,
        losses: &'a Losses,
    ) -> Self {
        let connections = snapshot.connections.iter().map(|c| (key(&c.scope, &c.id), c));
        Self {
            snapshot,
            tenant,
            now_ms,
            losses,
            secrets: StoredSecrets::new(&snapshot.secrets, losses),
            connections: connections.collect(),
            sources: snapshot.sources.iter().map(|s| key(&s.scope, &s.id)).collect(),
            targets: Vec::new(),
            warnings: Vec::new(),
            bound: BTreeSet::new(),
        }
    }

    /// Plans all connections: first those with credentials, then those that need none.
    pub(super) fn plan(&mut self) {
        let mut order: Vec<String> = Vec::new();
        let mut groups: BTreeMap<String, Vec<&Binding>> = BTreeMap::new();
        for binding in &self.snapshot.bindings {
            let key = key(&binding.scope, &binding.source);
            let group = groups.entry(key.clone()).or_default();
            if group.is_empty() {
                order.push(key);
            }
            group.push(binding);
        }
        for key in &order {
            self.group(key, &groups[key]);
        }
        self.open(&groups);
    }

    /// Returns the connections that no binding used; the original reports their number.
    pub(super) fn stale(&self) -> Vec<&'a Connection> {
        let unbound = |c: &&Connection| !self.bound.contains(&key(&c.scope, &c.id));
        self.snapshot.connections.iter().filter(unbound).collect()
    }

    fn group(&mut self, joined: &str, bindings: &[&Binding]) {
        // The original joins scope and source with a space and splits the result at spaces. With a
        // space in either, both come out wrong, and the connection gets another name. The rows must
        // equal the original's, so the error is repeated here and reported.
        let mut parts = joined.split(' ');
        let (scope, source) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if scope != bindings[0].scope || source != bindings[0].source {
            let (scope, source) = (&bindings[0].scope, &bindings[0].source);
            self.losses.note(Cause::GroupMisread, || format!("scope {scope:?} source {source:?}"));
        }
        if scope.is_empty() || source.is_empty() {
            return self.leave(bindings.iter().copied());
        }
        let source_scope = bindings[0].source_scope.as_deref().unwrap_or(scope);
        let group = Group {
            scope,
            source,
            source_scope,
            owner: Owner::of(scope, self.tenant),
            slots: self.snapshot.configs.get(&key(source_scope, source)).map(|c| &c.slots),
            bindings,
        };
        let of_kind = |kind: &str| bindings.iter().copied().filter(|b| b.kind == kind).collect();
        let connected: Vec<&Binding> = of_kind("connection");
        let mut secrets: Vec<&Binding> = of_kind("secret");
        secrets.retain(|binding| !is_client(binding));
        let texts: Vec<&Binding> = of_kind("text");
        // As the original: OAuth comes before secrets, secrets before text. Bindings of the kinds
        // that lose are reported as unused.
        let connection = connected.first().and_then(|c| Some((*c, filled(c.connection.as_ref())?)));
        let mut used: Vec<&Binding> = Vec::new();
        let before = self.targets.len();
        if let Some((binding, id)) = connection {
            used = self.connect(&group, binding, id);
        } else if !secrets.is_empty() {
            used = self.with_secrets(&group, &secrets);
        } else if !texts.is_empty() {
            used = self.with_texts(&group, &texts);
        } else {
            self.warnings.push(format!(
                "Skipped binding group \"{source}\" in scope \"{scope}\": no migratable \
                 credential binding (its secrets fall to the orphan re-key)."
            ));
        }
        if self.targets.len() > before && !self.sources.contains(&key(source_scope, source)) {
            let name = || format!("scope {scope:?} source {source:?}");
            self.losses.note(Cause::BindingWithoutSource, name);
        }
        let unused =
            bindings.iter().copied().filter(|b| !used.iter().any(|u| std::ptr::eq(*u, *b)));
        self.leave(unused);
    }

    fn leave<'b>(&self, bindings: impl Iterator<Item = &'b Binding>) {
        for Binding { scope, source, slot, kind, .. } in bindings {
            let name = || format!("scope {scope:?} source {source:?} slot {slot:?} ({kind})");
            self.losses.note(Cause::BindingUnused, name);
        }
    }

    /// Plans an OAuth connection. Returns the bindings that it uses.
    fn connect<'b>(
        &mut self,
        group: &Group<'b>,
        binding: &'b Binding,
        id: &str,
    ) -> Vec<&'b Binding> {
        let Some(connection) = self.connections.get(&key(group.scope, id)).copied() else {
            self.warnings.push(format!("Connection \"{id}\" referenced by a binding is missing."));
            return vec![];
        };
        self.bound.insert(key(group.scope, id));
        let state = &connection.state;
        let provider =
            if connection.provider == "oauth2" { "file" } else { &connection.provider }.to_owned();
        let mut take = |id: Option<&String>| {
            let id = filled(id)?;
            Some(self.secrets.store(group, &provider, group.scope, id))
        };
        let access = take(connection.access.as_ref());
        let refresh = take(connection.refresh.as_ref());
        let oauth = self.client(group, id, connection, &provider);
        let label = connection.label.clone();
        self.targets.push(Target {
            name: slug::identifier(label.as_deref().unwrap_or("account"), "account"),
            template: group.slot(self.losses, &binding.slot).method,
            provider,
            items: access.into_iter().map(|item| ("token".to_owned(), item)).collect(),
            label,
            refresh,
            expires: self.expiry(connection),
            oauth_scope: state.scopes.clone(),
            oauth: Some(oauth),
            ..group.target()
        });
        used_by_state(group, binding, state)
    }

    /// Plans the client of an OAuth connection, with its secrets.
    fn client(
        &mut self,
        group: &Group<'_>,
        id: &str,
        connection: &Connection,
        provider: &str,
    ) -> Input {
        let state = &connection.state;
        let secret = state.client_secret.as_ref().map(|(id, scope)| {
            let scope = self.secrets.scope_of(group, id, scope.as_deref());
            self.secrets.store(group, provider, &scope, id)
        });
        let reference = state.client_id_secret.as_ref().map(|(id, scope)| {
            let scope = self.secrets.scope_of(group, id, scope.as_deref());
            self.secrets.reference(group, &scope, id)
        });
        if state.client_id.is_none() && reference.is_none() {
            self.warnings.push(format!(
                "OAuth connection \"{id}\" has no client id or client-id secret reference; \
                 migrated oauth_client will need repair."
            ));
        }
        Input {
            client_id: state.client_id.clone().unwrap_or_default(),
            reference,
            token_url: state.token_url.clone(),
            authorization_url: state.authorization_url.clone(),
            metadata_url: state.metadata_url.clone(),
            grant: state.grant(),
            resource: state.resource.clone(),
            secret,
        }
    }

    /// Plans a connection with secrets. Returns the bindings that it uses. The new schema has one
    /// provider per connection: that of the first secret.
    fn with_secrets<'b>(&mut self, group: &Group<'b>, secrets: &[&'b Binding]) -> Vec<&'b Binding> {
        let named: Vec<(&Binding, &str, &str)> = secrets
            .iter()
            .filter_map(|b| {
                Some((
                    *b,
                    b.secret_scope.as_deref().unwrap_or(&b.scope),
                    filled(b.secret.as_ref())?,
                ))
            })
            .collect();
        let (scope, source) = (group.scope, group.source);
        let Some(provider) = named.first().map(|(_, scope, id)| self.secrets.provider(scope, id))
        else {
            self.warnings.push(format!(
                "Skipped binding group \"{source}\" in scope \"{scope}\": its secret bindings \
                 reference no secrets."
            ));
            return vec![];
        };
        // As in the original, all secrets of the connection go to the first one's provider.
        let providers: BTreeSet<String> =
            named.iter().map(|(_, s, id)| self.secrets.provider(s, id)).collect();
        if providers.len() > 1 {
            self.warnings.push(format!(
                "Connection \"{source}\" in scope \"{scope}\" uses multiple secret providers; v2 \
                 supports one provider per connection and will use \"{provider}\"."
            ));
        }
        let mut target = Target { provider: provider.clone(), ..group.target() };
        for (binding, scope, id) in &named {
            let item = self.secrets.store(group, &provider, scope, id);
            group.fill(self.losses, &mut target, binding, item);
        }
        let distinct: BTreeSet<(&str, &str)> = named.iter().map(|(_, s, id)| (*s, *id)).collect();
        target.name = match distinct.first() {
            Some((scope, id)) if distinct.len() == 1 => self.secrets.name(scope, id),
            _ => "api-key".to_owned(),
        };
        self.targets.push(target);
        named.iter().map(|(binding, ..)| *binding).collect()
    }

    /// Plans a connection with text from bindings. The text becomes a secret of the provider
    /// `file`. Returns the bindings that it uses.
    fn with_texts<'b>(&mut self, group: &Group<'b>, texts: &[&'b Binding]) -> Vec<&'b Binding> {
        let name = "inline".to_owned();
        let mut target = Target { name, provider: "file".to_owned(), ..group.target() };
        for binding in texts {
            let text = binding.text.as_deref().unwrap_or_default();
            let item = self.secrets.store_text(group, &binding.slot, text);
            group.fill(self.losses, &mut target, binding, item);
        }
        self.targets.push(target);
        texts.to_vec()
    }

    /// Plans connections for sources that need no credentials and have no bindings. Their tools
    /// need a connection too.
    fn open(&mut self, groups: &BTreeMap<String, Vec<&Binding>>) {
        for source in &self.snapshot.sources {
            let key = key(&source.scope, &source.id);
            let auth = self.snapshot.configs.get(&key).map(|config| config.auth);
            // A source with bindings has its connection already, or failed to get one.
            if groups.contains_key(&key) || auth != Some(Auth::Anonymous) {
                continue;
            }
            let group = Group {
                scope: &source.scope,
                source: &source.id,
                source_scope: &source.scope,
                owner: Owner::of(&source.scope, self.tenant),
                slots: None,
                bindings: &[],
            };
            self.targets.push(Target {
                name: "workspace".to_owned(),
                template: "none".to_owned(),
                provider: "file".to_owned(),
                ..group.target()
            });
        }
    }

    fn expiry(&self, connection: &Connection) -> Option<String> {
        let made_up =
            connection.state.machine.then_some(js::from_whole(self.now_ms) + MACHINE_TOKEN_MS);
        connection.expires.or(made_up).map(js::truncate)
    }
}
