//! Asks servers for their OAuth metadata: the resource that a token is for, and the address where
//! users authorize.
//!
//! Best effort: nothing here fails, and without an answer the stored values stay. All requests of
//! one migration share one time budget, so that a network that drops packets cannot delay a start
//! by minutes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::config::Auth;
use super::js::{self, Value};
use super::plan::Client;
use super::snapshot::{Snapshot, key};
use super::url::Url;
use groundskeeper_migrate::recipe::Network;

/// Time limit of all requests of one migration together.
const BUDGET: Duration = Duration::from_secs(10);
/// Time limit of one request for a resource's metadata.
const RESOURCE_LIMIT: Duration = Duration::from_secs(5);
/// Time limit of one request for an authorization server's metadata; the budget is always tighter.
const SERVER_LIMIT: Duration = Duration::from_secs(20);
const RESOURCE: &str = "oauth-protected-resource";
const SERVER: &str = "oauth-authorization-server";
const OPENID: &str = "openid-configuration";

/// A network client that answers nothing once the budget is spent.
pub(crate) struct Servers<'a> {
    network: &'a dyn Network,
    until: Instant,
}

impl<'a> Servers<'a> {
    /// Starts the time budget.
    pub(crate) fn new(network: &'a dyn Network) -> Self {
        Self { network, until: Instant::now() + BUDGET }
    }

    /// Returns the resources that servers name for the endpoints that use OAuth tokens, by [`key`]
    /// of scope and source. Each endpoint is asked once.
    pub(crate) fn resources(&self, snapshot: &Snapshot) -> BTreeMap<String, String> {
        let mut known: BTreeMap<&str, Option<String>> = BTreeMap::new();
        let mut resources = BTreeMap::new();
        for binding in snapshot.bindings.iter().filter(|b| b.kind == "connection") {
            let scope = binding.source_scope.as_deref().unwrap_or(&binding.scope);
            let key = key(scope, &binding.source);
            let Some(config) = snapshot.configs.get(&key) else { continue };
            let Some(endpoint) = config.endpoint.as_deref() else { continue };
            if config.auth != Auth::Delegated {
                continue;
            }
            let resource = known.entry(endpoint).or_insert_with(|| self.resource(endpoint));
            if let Some(resource) = resource {
                resources.insert(key, resource.clone());
            }
        }
        resources
    }

    /// Returns the authorization endpoint of a client as a server reports it: from the client's
    /// metadata address first, then from the authorization servers of its resource, then from its
    /// stored authorization address. A machine's client asks only the first.
    pub(crate) fn authorization_url(&self, client: &Client) -> Option<String> {
        let input = &client.input;
        let described = input.metadata_url.as_deref().and_then(|url| self.server_at(url));
        if described.is_some() || input.grant == "client_credentials" {
            return described;
        }
        let filled = |text: &str| !js::trim(text).is_empty();
        let resource = input.resource.as_deref().filter(|text| filled(text));
        let mut issuers = resource.map(|r| self.issuers(r)).unwrap_or_default();
        if filled(&input.authorization_url) {
            issuers.push(input.authorization_url.clone());
        }
        let mut asked: Vec<String> = Vec::new();
        for issuer in issuers {
            if asked.contains(&issuer) {
                continue;
            }
            let found = Url::parse(&issuer).filter(Url::is_safe).and_then(|url| {
                [SERVER, OPENID].iter().find_map(|what| self.server_at(&url.well_known(what)))
            });
            if found.is_some() {
                return found;
            }
            asked.push(issuer);
        }
        None
    }

    fn resource(&self, endpoint: &str) -> Option<String> {
        let url = Url::parse(endpoint)?;
        self.descriptions(&url).find_map(|described| {
            let resource = described.text("resource")?.lossy().into_owned();
            // A server may only name a resource that contains the endpoint itself; otherwise it
            // could have tokens issued for another server.
            url.is_within(&Url::parse(&resource)?).then_some(resource)
        })
    }

    /// Returns the authorization servers that a resource names.
    fn issuers(&self, resource: &str) -> Vec<String> {
        let Some(url) = Url::parse(resource) else { return Vec::new() };
        let servers = self.descriptions(&url).find_map(|described| {
            let servers = described.get("authorization_servers")?.as_array()?;
            let texts = servers.iter().filter_map(Value::as_text);
            Some(texts.map(|text| text.lossy().into_owned()).collect())
        });
        servers.unwrap_or_default()
    }

    /// Returns the metadata of a resource, lazily: from the well-known address of the resource's
    /// own path, then from that of its root.
    fn descriptions<'s>(&'s self, url: &Url) -> impl Iterator<Item = Value> + use<'s, 'a> {
        let own = url.has_path().then(|| url.well_known(RESOURCE));
        let addresses = own.into_iter().chain([url.root_well_known(RESOURCE)]);
        addresses.filter_map(|address| self.get(&address, RESOURCE_LIMIT))
    }

    fn server_at(&self, address: &str) -> Option<String> {
        // This answer decides where users and client secrets go, so it must not come unencrypted.
        if !Url::parse(address)?.is_safe() {
            return None;
        }
        let described = self.get(address, SERVER_LIMIT)?;
        let url = described.text("authorization_endpoint")?.lossy().into_owned();
        Url::parse(&url).filter(Url::is_safe).map(|_| url)
    }

    fn get(&self, address: &str, limit: Duration) -> Option<Value> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        let body = self.network.get(address, limit.min(left))?;
        let parsed = crate::js::parse(&String::from_utf8_lossy(&body)).ok()?;
        // A body that is not a JSON object counts as no answer.
        Some(parsed.value).filter(|value| value.as_object().is_some())
    }
}
