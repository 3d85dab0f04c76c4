//! Data of the plan: secrets, connections (targets) and OAuth clients. It has no rules.

use crate::scope::Owner;

/// A secret of the old generation, and the provider that keeps it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SecretRef {
    pub(crate) scope: String,
    pub(crate) id: String,
    pub(crate) provider: String,
}

/// A secret that the new generation refers to under a new id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SecretOp {
    /// Provider that keeps the secret in the new generation.
    pub(crate) provider: String,
    pub(crate) owner: Owner,
    pub(crate) item: String,
    /// Old location of the value; none for a value that a binding contains.
    pub(crate) from: Option<SecretRef>,
    pub(crate) literal: Option<String>,
}

/// A connection of the new generation, before a row of it exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Scope of the bindings that the connection was made from.
    pub(crate) scope: String,
    pub(crate) source_scope: String,
    pub(crate) source: String,
    /// Slug of the integration: the source's id, or its new slug after a clash.
    pub(crate) integration: String,
    pub(crate) owner: Owner,
    pub(crate) name: String,
    pub(crate) template: String,
    pub(crate) provider: String,
    /// Variables and the ids of their secrets; a later entry replaces an earlier one of the same
    /// variable.
    pub(crate) items: Vec<(String, String)>,
    /// The slots that `items` came from, in the same order; empty for OAuth.
    pub(crate) slots: Vec<String>,
    pub(crate) label: Option<String>,
    pub(crate) refresh: Option<String>,
    pub(crate) expires: Option<String>,
    pub(crate) oauth_scope: Option<String>,
    pub(crate) oauth: Option<Input>,
    /// Slug of the connection's OAuth client, set when clients are planned.
    pub(crate) client: Option<String>,
}

impl Target {
    /// Describes the connection for warnings and faults.
    pub(crate) fn describe(&self) -> String {
        let Self { scope, source, name, .. } = self;
        format!("connection {name:?} of source {source:?} in scope {scope:?}")
    }
}

/// Settings of an OAuth client as one connection has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Input {
    pub(crate) client_id: String,
    /// Secret that holds the client's id, if the id is not plain text.
    pub(crate) reference: Option<SecretRef>,
    pub(crate) token_url: String,
    pub(crate) authorization_url: String,
    pub(crate) metadata_url: Option<String>,
    pub(crate) grant: &'static str,
    pub(crate) resource: Option<String>,
    /// New id of the client's secret.
    pub(crate) secret: Option<String>,
}

/// An OAuth client of the new generation, shared by one or more connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) slug: String,
    pub(crate) owner: Owner,
    /// Scope and source of the first connection, as [`key`](crate::snapshot::key) joins them.
    pub(crate) place: String,
    pub(crate) input: Input,
}
