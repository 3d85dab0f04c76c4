//! The bindings of one scope and source: what they have in common, and which of them a connection
//! uses. Pure; it plans nothing by itself.

use std::collections::BTreeMap;

use crate::config::Slot;
use crate::losses::{Cause, Losses};
use crate::plan::target::Target;
use crate::scope::Owner;
use crate::snapshot::Binding;

/// The bindings of one scope and source, with their common data.
pub(super) struct Group<'a> {
    pub(super) scope: &'a str,
    pub(super) source: &'a str,
    pub(super) source_scope: &'a str,
    pub(super) owner: Owner,
    pub(super) slots: Option<&'a BTreeMap<String, Slot>>,
    pub(super) bindings: &'a [&'a Binding],
}

impl Group<'_> {
    /// Returns a connection of this group without name, template and credentials.
    pub(super) fn target(&self) -> Target {
        Target {
            scope: self.scope.to_owned(),
            source_scope: self.source_scope.to_owned(),
            source: self.source.to_owned(),
            integration: self.source.to_owned(),
            owner: self.owner.clone(),
            name: String::new(),
            template: String::new(),
            provider: String::new(),
            items: Vec::new(),
            slots: Vec::new(),
            label: None,
            refresh: None,
            expires: None,
            oauth_scope: None,
            oauth: None,
            client: None,
        }
    }

    /// Sets the secret of a variable. The last binding wins, and decides the connection's template
    /// too.
    pub(super) fn fill(
        &self,
        losses: &Losses,
        target: &mut Target,
        binding: &Binding,
        item: String,
    ) {
        let Binding { scope, source, slot, .. } = binding;
        let stands = self.slot(losses, slot);
        let filled = target.items.iter().zip(&target.slots);
        let earlier = filled.filter(|((v, i), _)| *v == stands.variable && *i != item);
        for (_, lost) in earlier {
            let secret = self.bindings.iter().find(|b| b.slot == *lost);
            let secret = secret.and_then(|b| b.secret.as_deref()).unwrap_or_default();
            let name = || {
                let variable = &stands.variable;
                format!(
                    "scope {scope:?} source {source:?} slot {slot:?} for {variable:?} from slot \
                     {lost:?} (secret {secret:?})"
                )
            };
            losses.note(Cause::VariableTaken, name);
        }
        target.slots.push(slot.clone());
        target.template = stands.method;
        target.items.push((stands.variable, item));
    }

    /// Returns the method and the variable of a slot.
    pub(super) fn slot(&self, losses: &Losses, slot: &str) -> Slot {
        if let Some(slot) = self.slots.and_then(|slots| slots.get(slot)) {
            return slot.clone();
        }
        if self.slots.is_some() {
            let name = || format!("scope {:?} source {:?} slot {slot:?}", self.scope, self.source);
            losses.note(Cause::SlotUnknown, name);
        }
        Slot { method: "apiKey".to_owned(), variable: "token".to_owned() }
    }
}

/// Returns whether a binding is for the client of an OAuth connection.
pub(super) fn is_client(binding: &Binding) -> bool {
    let slot = &binding.slot;
    slot.starts_with("oauth2:")
        && (slot.ends_with(":client-id") || slot.ends_with(":client-secret"))
}

/// Returns the bindings that an OAuth connection uses: its own, and those of secrets that the
/// connection's state names as well.
pub(super) fn used_by_state<'b>(
    group: &Group<'b>,
    binding: &'b Binding,
    state: &crate::oauth::State,
) -> Vec<&'b Binding> {
    let ids = [&state.client_id_secret, &state.client_secret];
    let ids: Vec<&str> = ids.into_iter().flatten().map(|(id, _)| id.as_str()).collect();
    let same = |b: &&Binding| {
        std::ptr::eq(*b, binding) || b.secret.as_deref().is_some_and(|id| ids.contains(&id))
    };
    group.bindings.iter().copied().filter(same).collect()
}

/// Returns a text that is there and not empty.
pub(super) fn filled(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}
