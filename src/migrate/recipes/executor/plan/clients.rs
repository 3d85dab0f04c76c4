//! Plans OAuth clients. Connections of one owner with the same client id and token address share a
//! client. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::losses::{Cause, Losses};
use crate::plan::target::{Client, Input, SecretRef, Target};
use crate::{slug, snapshot};

/// Makes the clients of all connections, and sets the slug of its client in each connection.
pub(super) fn share(targets: &mut [Target], losses: &Losses) -> Vec<Client> {
    let mut clients: Vec<Client> = Vec::new();
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    let mut taken: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for target in targets {
        let Some(input) = target.oauth.take() else { continue };
        let partition = target.owner.partition();
        let key = format!("{partition} {} {}", identity(&input), input.token_url);
        let at = *known.entry(key).or_insert_with(|| {
            let names = taken.entry(partition).or_default();
            let slug = slug::unique(&slug::host(&input.token_url), names);
            let place = snapshot::key(&target.source_scope, &target.source);
            clients.push(Client { slug, owner: target.owner.clone(), place, input: input.clone() });
            clients.len() - 1
        });
        let client = &mut clients[at];
        if client.input != input {
            losses.note(Cause::ClientShared, || target.describe());
        }
        // As the original: the first connection decides all settings except the secret, which is
        // the last one's.
        client.input.secret = input.secret;
        target.client = Some(client.slug.clone());
    }
    clients
}

fn identity(input: &Input) -> String {
    if !input.client_id.is_empty() {
        return format!("literal:{}", input.client_id);
    }
    match &input.reference {
        Some(SecretRef { scope, id, provider }) => format!("secret:{provider}:{scope}:{id}"),
        None => "missing:".to_owned(),
    }
}
