//! Secrets and targets of the plan, as data.

use crate::migrate::recipes::executor::scope::Owner;

/// A secret of the old generation, and who keeps it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SecretRef {
    pub(crate) scope: String,
    pub(crate) id: String,
    pub(crate) provider: String,
}

/// A secret that the new generation refers to under a new id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SecretOp {
    /// The provider that keeps it from now on.
    pub(crate) provider: String,
    pub(crate) owner: Owner,
    pub(crate) item: String,
    /// Where its value is; none for a value that stood in a binding.
    pub(crate) from: Option<SecretRef>,
    pub(crate) literal: Option<String>,
}

/// A connection of the new generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The scope of the bindings that it was made from.
    pub(crate) scope: String,
    pub(crate) source_scope: String,
    pub(crate) source: String,
    /// The integration's slug: that of the source, or what it was renamed to.
    pub(crate) integration: String,
    pub(crate) owner: Owner,
    pub(crate) name: String,
    pub(crate) template: String,
    pub(crate) provider: String,
    /// Variables and the secrets that they stand for; a later one replaces an earlier one.
    pub(crate) items: Vec<(String, String)>,
    /// The slots that they came from, in the same order; none for those of OAuth.
    pub(crate) slots: Vec<String>,
    pub(crate) label: Option<String>,
    pub(crate) refresh: Option<String>,
    pub(crate) expires: Option<String>,
    pub(crate) oauth_scope: Option<String>,
    pub(crate) oauth: Option<Input>,
    /// The slug of its OAuth client.
    pub(crate) client: Option<String>,
}

impl Target {
    /// What people call it.
    pub(crate) fn describe(&self) -> String {
        let Self { scope, source, name, .. } = self;
        format!("connection {name:?} of source {source:?} in scope {scope:?}")
    }
}

/// What a connection says of its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Input {
    pub(crate) client_id: String,
    /// The secret that holds the client's id.
    pub(crate) reference: Option<SecretRef>,
    pub(crate) token_url: String,
    pub(crate) authorization_url: String,
    pub(crate) metadata_url: Option<String>,
    pub(crate) grant: &'static str,
    pub(crate) resource: Option<String>,
    /// The client's secret, under its new id.
    pub(crate) secret: Option<String>,
}

/// An OAuth client of the new generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) slug: String,
    pub(crate) owner: Owner,
    pub(crate) input: Input,
}
