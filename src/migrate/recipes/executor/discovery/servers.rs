//! Whom to ask for what, and which answers count. It knows no threads and no time.

use super::questions::Asked;
use crate::js::{self, Value};
use crate::url::Url;

const RESOURCE: &str = "oauth-protected-resource";
const SERVER: &str = "oauth-authorization-server";
const OPENID: &str = "openid-configuration";

/// Returns the body of the response to a `GET`, if there is one.
pub(super) type Get<'a> = &'a dyn Fn(&Url, &str) -> Option<Vec<u8>>;

/// Returns the resource that a server names for an endpoint.
pub(super) fn resource(get: Get<'_>, endpoint: &str) -> Option<String> {
    let url = Url::parse(endpoint)?;
    descriptions(get, &url).find_map(|described| {
        let resource = described.text("resource")?.lossy().into_owned();
        // A server may only name a resource that contains the endpoint itself; otherwise it could
        // have tokens issued for another server.
        url.is_within(&Url::parse(&resource)?).then_some(resource)
    })
}

/// Returns the authorization endpoint of a client as a server reports it: from the client's
/// metadata address first, then from the authorization servers of its resource, then from its
/// stored authorization address. A machine's client asks only the first.
pub(super) fn authorization_url(
    get: Get<'_>,
    client: &Asked,
    resource: Option<&str>,
) -> Option<String> {
    let described = client.metadata_url.as_deref().and_then(|url| server_at(get, url));
    if described.is_some() || client.machine {
        return described;
    }
    let filled = |text: &str| !js::trim(text).is_empty();
    let resource = resource.or(client.resource.as_deref()).filter(|text| filled(text));
    let mut issuers = resource.map(|r| issuers(get, r)).unwrap_or_default();
    if filled(&client.authorization_url) {
        issuers.push(client.authorization_url.clone());
    }
    let mut asked: Vec<String> = Vec::new();
    for issuer in issuers {
        if asked.contains(&issuer) {
            continue;
        }
        let found = Url::parse(&issuer).filter(Url::is_safe).and_then(|url| {
            [SERVER, OPENID].iter().find_map(|what| server_at(get, &url.well_known(what)))
        });
        if found.is_some() {
            return found;
        }
        asked.push(issuer);
    }
    None
}

/// Returns the authorization servers that a resource names.
fn issuers(get: Get<'_>, resource: &str) -> Vec<String> {
    let Some(url) = Url::parse(resource) else { return Vec::new() };
    let servers = descriptions(get, &url).find_map(|described| {
        let servers = described.get("authorization_servers")?.as_array()?;
        let texts = servers.iter().filter_map(Value::as_text);
        Some(texts.map(|text| text.lossy().into_owned()).collect())
    });
    servers.unwrap_or_default()
}

/// Returns the metadata of a resource, lazily: from the well-known address of the resource's own
/// path, then from that of its root.
fn descriptions<'g>(get: Get<'g>, url: &Url) -> impl Iterator<Item = Value> + use<'g> {
    let own = url.has_path().then(|| url.well_known(RESOURCE));
    let addresses = own.into_iter().chain([url.root_well_known(RESOURCE)]);
    addresses.filter_map(move |address| object(get, &address))
}

fn server_at(get: Get<'_>, address: &str) -> Option<String> {
    // This answer decides where users and client secrets go, so it must not come unencrypted.
    if !Url::parse(address)?.is_safe() {
        return None;
    }
    let described = object(get, address)?;
    let url = described.text("authorization_endpoint")?.lossy().into_owned();
    Url::parse(&url).filter(Url::is_safe).map(|_| url)
}

/// Returns the JSON object at an address; any other body counts as no answer.
fn object(get: Get<'_>, address: &str) -> Option<Value> {
    let body = get(&Url::parse(address)?, address)?;
    let parsed = crate::js::parse(&String::from_utf8_lossy(&body)).ok()?;
    Some(parsed.value).filter(|value| value.as_object().is_some())
}
