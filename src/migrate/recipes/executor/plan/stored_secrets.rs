//! The secrets that planned connections refer to: their providers, their new ids, and which secrets
//! of the old generation are used. Pure; it reads no value of a secret.

use std::collections::{BTreeMap, BTreeSet};

use crate::losses::{Cause, Losses};
use crate::plan::group::Group;
use crate::plan::target::{SecretOp, SecretRef};
use crate::snapshot::Secret;
use crate::{js, slug};

/// Provider of a secret that has no row, as the original assumes it.
const PROVIDER_UNKNOWN: &str = "workos-vault";

/// The secrets that have been planned so far.
pub(super) struct StoredSecrets<'a> {
    losses: &'a Losses,
    rows: BTreeMap<(&'a str, &'a str), &'a Secret>,
    pub(super) ops: Vec<SecretOp>,
    /// Scope and id of every secret that a connection uses.
    pub(super) used: BTreeSet<(String, String)>,
}

impl<'a> StoredSecrets<'a> {
    pub(super) fn new(secrets: &'a [Secret], losses: &'a Losses) -> Self {
        // In a damaged table two rows may have one id; the original finds the first.
        let rows = secrets.iter().rev().map(|s| ((s.scope.as_str(), s.id.as_str()), s)).collect();
        Self { losses, rows, ops: Vec::new(), used: BTreeSet::new() }
    }

    /// Plans to store a secret under its new id. Returns that id.
    pub(super) fn store(
        &mut self,
        group: &Group<'_>,
        provider: &str,
        scope: &str,
        id: &str,
    ) -> String {
        let item = slug::item_id(scope, id);
        let from = self.reference(group, scope, id);
        self.ops.push(SecretOp {
            provider: provider.to_owned(),
            owner: group.owner.clone(),
            item: item.clone(),
            from: Some(from),
            literal: None,
        });
        item
    }

    /// Plans to store a text that a binding contains. Returns its id.
    pub(super) fn store_text(&mut self, group: &Group<'_>, slot: &str, text: &str) -> String {
        let item = slug::item_id(group.scope, &format!("text:{}:{slot}", group.source));
        self.ops.push(SecretOp {
            provider: "file".to_owned(),
            owner: group.owner.clone(),
            item: item.clone(),
            from: None,
            literal: Some(text.to_owned()),
        });
        item
    }

    /// Returns a reference to a secret, and marks the secret as used.
    pub(super) fn reference(&mut self, group: &Group<'_>, scope: &str, id: &str) -> SecretRef {
        self.used.insert((scope.to_owned(), id.to_owned()));
        if !self.rows.contains_key(&(scope, id)) {
            let name = || format!("secret {id:?} of scope {scope:?} for source {:?}", group.source);
            self.losses.note(Cause::SecretDangling, name);
        }
        SecretRef { scope: scope.to_owned(), id: id.to_owned(), provider: self.provider(scope, id) }
    }

    /// Returns the provider that keeps a secret.
    pub(super) fn provider(&self, scope: &str, id: &str) -> String {
        let known = self.rows.get(&(scope, id)).map(|secret| secret.provider.clone());
        known.unwrap_or_else(|| PROVIDER_UNKNOWN.to_owned())
    }

    /// Returns the scope of a client's secret: the stated one, else the source's scope if the
    /// secret has a row there, else the group's.
    pub(super) fn scope_of(&self, group: &Group<'_>, id: &str, stated: Option<&str>) -> String {
        let at_source = self.rows.contains_key(&(group.source_scope, id));
        let guess = if at_source { group.source_scope } else { group.scope };
        stated.unwrap_or(guess).to_owned()
    }

    /// Returns the name of a connection that uses this secret alone.
    pub(super) fn name(&self, scope: &str, id: &str) -> String {
        let name = self.rows.get(&(scope, id)).map_or("", |secret| js::trim(&secret.name));
        let name = if name.is_empty() { String::new() } else { slug::identifier(name, "") };
        if name.is_empty() { slug::identifier(id, "api-key") } else { name }
    }
}
