//! What is to be asked for one database: the endpoints and clients, each once. Pure.

use std::collections::BTreeMap;

use crate::config::Auth;
use crate::plan::Client;
use crate::snapshot::{Snapshot, key};

/// What servers say about one OAuth client; none where the stored value stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) resource: Option<String>,
    pub(crate) authorization_url: Option<String>,
}

/// The endpoints and clients of a database.
#[derive(Debug, Default)]
pub(super) struct Questions {
    /// Endpoints that use OAuth tokens.
    pub(super) endpoints: Vec<String>,
    pub(super) clients: Vec<Asked>,
}

/// A client, with the parts that decide whom to ask.
#[derive(Debug)]
pub(super) struct Asked {
    /// Index of the endpoint whose resource replaces the stored one.
    pub(super) endpoint: Option<usize>,
    pub(super) metadata_url: Option<String>,
    /// The client is a machine's, without a user who authorizes.
    pub(super) machine: bool,
    pub(super) resource: Option<String>,
    pub(super) authorization_url: String,
}

impl Questions {
    /// Returns whether there is nothing to ask.
    pub(super) fn is_empty(&self) -> bool {
        self.endpoints.is_empty() && self.clients.is_empty()
    }

    /// Collects the questions, in the order of bindings and clients.
    pub(super) fn new(snapshot: &Snapshot, clients: &[Client]) -> Self {
        let mut questions = Self::default();
        let mut index: BTreeMap<&str, usize> = BTreeMap::new();
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        for binding in snapshot.bindings.iter().filter(|b| b.kind == "connection") {
            let scope = binding.source_scope.as_deref().unwrap_or(&binding.scope);
            let place = key(scope, &binding.source);
            let Some(config) = snapshot.configs.get(&place) else { continue };
            let Some(endpoint) = config.endpoint.as_deref() else { continue };
            if config.auth != Auth::Delegated {
                continue;
            }
            let at = *index.entry(endpoint).or_insert_with(|| {
                questions.endpoints.push(endpoint.to_owned());
                questions.endpoints.len() - 1
            });
            places.insert(place, at);
        }
        questions.clients = clients
            .iter()
            .map(|Client { place, input, .. }| Asked {
                endpoint: places.get(place).copied(),
                metadata_url: input.metadata_url.clone(),
                machine: input.grant == "client_credentials",
                resource: input.resource.clone(),
                authorization_url: input.authorization_url.clone(),
            })
            .collect();
        questions
    }
}
