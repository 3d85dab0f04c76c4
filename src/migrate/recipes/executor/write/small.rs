//! Writes the tables that come from the plan: integrations, OAuth clients, connections, policies.
//! The plan has settled their clashes, so a duplicate here is an error.

use std::collections::BTreeSet;

use rusqlite::{Connection, params};

use super::insert::Insert;
use crate::cells::{Cells, emit};
use crate::discovery::Described;
use crate::js::{self, Value};
use crate::losses::Cause;
use crate::plan::Target;
use crate::scope::Owner;
use crate::snapshot::{self, Source, key};
use crate::write::writer::Writer;
use crate::{config, fail};
use groundskeeper_migrate::Fault;

impl Writer<'_> {
    /// Writes one integration per source.
    pub(super) fn integrations(&mut self, staging: &Connection) -> Result<(), Fault> {
        let columns = [
            "slug",
            "plugin_id",
            "description",
            "config",
            "can_remove",
            "can_refresh",
            "created_at",
            "updated_at",
            "row_id",
            "tenant",
        ];
        let mut insert = Insert::new(staging, "integration", &columns)?;
        let now = self.work.now_ms;
        let mut seen = BTreeSet::new();
        for source in &self.snapshot.sources {
            // No new slug can separate two rows of one scope and id, so only the first is written.
            let twin = !seen.insert((&source.scope, &source.id));
            if twin || self.plan.outcomes.left(&source.scope, &source.id) {
                continue;
            }
            let slug = self.plan.outcomes.slug(&source.scope, &source.id);
            let config = self.config(source)?;
            let config = emit(&config);
            let tenant = Owner::of(&source.scope, self.work.tenant).tenant;
            insert.bind_all(&[
                &slug,
                &source.plugin,
                &source.name,
                &config.text(),
                &1,
                &0,
                &now,
                &now,
                &self.ids.next()?,
                &tenant,
            ])?;
            if !insert.try_run()? {
                return Err(fail::defect(format!("integration {slug:?} occurs twice")));
            }
        }
        let written = insert.written;
        self.done("integration", written);
        Ok(())
    }

    /// Reads a source's configuration again: it may be large, so the snapshot does not hold it.
    fn config(&self, source: &Source) -> Result<Value, Fault> {
        let name = || format!("{:?} of scope {:?}", source.id, source.scope);
        let Some(known) = self.snapshot.configs.get(&key(&source.scope, &source.id)) else {
            self.losses.note(Cause::SourceShell, name);
            return Ok(Value::object(Vec::new()));
        };
        let mut value = None;
        let sql = snapshot::config_at(known.row);
        snapshot::each(self.copy, &sql, &snapshot::CONFIG, self.losses, |cells: &Cells<'_>| {
            let data = cells.json("data")?;
            let mut config =
                config::migrate(&source.kind, &data).map_err(|why| cells.fault("data", why))?;
            let called = data.text("name").is_some_and(|n| n != source.name.as_str());
            if called && source.kind != "graphql" {
                config.lost.push("name".to_owned());
            }
            if !config.lost.is_empty() {
                self.losses.note(Cause::ConfigMembers, || {
                    format!("{} ({})", name(), config.lost.join(", "))
                });
            }
            value = Some(config.value);
            Ok(())
        })?;
        value.ok_or_else(|| {
            fail::defect(format!("the configuration of source {} is missing", name()))
        })
    }

    /// Writes the OAuth clients as the old database has them.
    pub(super) fn clients(&mut self, staging: &Connection) -> Result<(), Fault> {
        let columns = [
            "slug",
            "authorization_url",
            "token_url",
            "grant",
            "client_id",
            "client_secret_item_id",
            "resource",
            "created_at",
            "row_id",
            "tenant",
            "owner",
            "subject",
        ];
        let mut insert = Insert::new(staging, "oauth_client", &columns)?;
        for (at, client) in self.plan.clients.iter().enumerate() {
            let input = &client.input;
            let resolved = self.collected.client_ids.get(at).cloned().flatten();
            let id = if input.client_id.is_empty() {
                resolved.unwrap_or_default()
            } else {
                input.client_id.clone()
            };
            let secret = input.secret.as_deref().map(|item| self.collected.item(item));
            let Owner { tenant, kind, subject } = &client.owner;
            insert.bind_all(&[
                &client.slug,
                &input.authorization_url,
                &input.token_url,
                &input.grant,
                &id,
                &secret,
                &input.resource,
                &self.work.now_ms,
                &self.ids.next()?,
                tenant,
                kind,
                subject,
            ])?;
            if !insert.try_run()? {
                return Err(fail::defect(format!("OAuth client {:?} occurs twice", client.slug)));
            }
        }
        let written = insert.written;
        self.done("oauth_client", written);
        Ok(())
    }

    /// Replaces what servers describe otherwise in the OAuth clients.
    pub(super) fn described(&mut self, staging: &Connection) -> Result<(), Fault> {
        let Some(discovery) = self.discovery.take() else { return Ok(()) };
        let failed = fail::during("write the answers of servers");
        let sql = "UPDATE oauth_client SET authorization_url = coalesce(?1, authorization_url), \
                   resource = coalesce(?2, resource) \
                   WHERE slug = ?3 AND tenant = ?4 AND owner = ?5 AND subject = ?6";
        let mut update = staging.prepare(sql).map_err(&failed)?;
        for (client, found) in self.plan.clients.iter().zip(discovery.answers()) {
            let Described { resource, authorization_url } = found;
            if resource.is_none() && authorization_url.is_none() {
                continue;
            }
            let Owner { tenant, kind, subject } = &client.owner;
            let slug = &client.slug;
            let row = params![authorization_url, resource, slug, tenant, kind, subject];
            update.execute(row).map_err(&failed)?;
        }
        Ok(())
    }

    /// Writes the connections.
    pub(super) fn connections(&mut self, staging: &Connection) -> Result<(), Fault> {
        let columns = [
            "integration",
            "name",
            "template",
            "provider",
            "item_ids",
            "identity_label",
            "oauth_client",
            "oauth_client_owner",
            "refresh_item_id",
            "expires_at",
            "oauth_scope",
            "created_at",
            "updated_at",
            "row_id",
            "tenant",
            "owner",
            "subject",
        ];
        let mut insert = Insert::new(staging, "connection", &columns)?;
        let now = self.work.now_ms;
        for target in &self.plan.targets {
            let items = self.items(target);
            let refresh = target.refresh.as_deref().map(|item| self.collected.item(item));
            let Owner { tenant, kind, subject } = &target.owner;
            let client_owner = target.client.as_ref().map(|_| *kind);
            insert.bind_all(&[
                &target.integration,
                &target.name,
                &target.template,
                &target.provider,
                &items,
                &target.label,
                &target.client,
                &client_owner,
                &refresh,
                &target.expires,
                &target.oauth_scope,
                &now,
                &now,
                &self.ids.next()?,
                tenant,
                kind,
                subject,
            ])?;
            if !insert.try_run()? {
                return Err(fail::defect(format!("{} occurs twice", target.describe())));
            }
        }
        let written = insert.written;
        self.done("connection", written);
        Ok(())
    }

    /// Returns the secret ids of a connection by variable, as JSON.
    fn items(&self, target: &Target) -> String {
        let all = target.items.iter().map(|(_, item)| item).chain(&target.refresh);
        let local = matches!(target.provider.as_str(), "file" | "keychain");
        if local && all.into_iter().any(|item| self.collected.is_overridden(item)) {
            self.losses.note(Cause::OverrideLeak, || target.describe());
        }
        let items = target.items.iter();
        let member = |(variable, item): &(String, String)| {
            (variable.as_str().into(), Value::from(self.collected.item(item)))
        };
        js::compact(&Value::object(items.map(member).collect()))
    }

    /// Writes the policies.
    pub(super) fn policies(&mut self, staging: &Connection) -> Result<(), Fault> {
        let columns = [
            "id",
            "pattern",
            "action",
            "position",
            "created_at",
            "updated_at",
            "row_id",
            "tenant",
            "owner",
            "subject",
        ];
        let mut insert = Insert::new(staging, "tool_policy", &columns)?;
        let now = self.work.now_ms;
        for policy in &self.plan.policies {
            let Owner { tenant, kind, subject } = &policy.owner;
            insert.bind_all(&[
                &policy.id,
                &policy.pattern,
                &policy.action,
                &policy.position,
                &now,
                &now,
                &self.ids.next()?,
                tenant,
                kind,
                subject,
            ])?;
            if !insert.try_run()? {
                return Err(fail::defect(format!("policy {:?} occurs twice", policy.id)));
            }
        }
        let written = insert.written;
        self.done("tool_policy", written);
        Ok(())
    }
}
