//! Parses HTTP addresses as far as the lookup of server metadata needs them. Pure; it never
//! connects.

/// An address with scheme `http` or `https`, without user, query and fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    scheme: String,
    /// In lower case, with the port unless it is the scheme's default port.
    host: String,
    /// Empty for the root; without trailing slashes.
    path: String,
}

impl Url {
    /// Parses an address; none when it is not HTTP, has no host, or contains white space or a
    /// control character.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.trim().split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let port = match scheme.as_str() {
            "https" => ":443",
            "http" => ":80",
            _ => return None,
        };
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let host = authority.rsplit('@').next().unwrap_or_default().to_ascii_lowercase();
        let host = host.strip_suffix(port).unwrap_or(&host).to_owned();
        let odd = |c: char| c.is_whitespace() || c.is_control();
        if host.is_empty() || host.contains(odd) || path.contains(odd) {
            return None;
        }
        Some(Self { scheme, host, path: path.trim_end_matches('/').to_owned() })
    }

    /// Returns whether a secret may be sent to this address: it is encrypted, or on this machine.
    pub(crate) fn is_safe(&self) -> bool {
        let port = |c: char| c.is_ascii_digit();
        let bare = match self.host.rsplit_once(':') {
            Some((host, digits)) if !digits.is_empty() && digits.chars().all(port) => host,
            _ => &self.host,
        };
        self.scheme == "https" || matches!(bare, "localhost" | "127.0.0.1" | "[::1]")
    }

    /// Returns the name of the server, with the port unless it is the scheme's default port.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Returns the well-known address of the metadata about this address: the path goes to the end.
    pub(crate) fn well_known(&self, what: &str) -> String {
        let Self { scheme, host, path } = self;
        format!("{scheme}://{host}/.well-known/{what}{path}")
    }

    /// Returns the well-known address of the metadata about the whole server.
    pub(crate) fn root_well_known(&self, what: &str) -> String {
        let Self { scheme, host, .. } = self;
        format!("{scheme}://{host}/.well-known/{what}")
    }

    /// Returns whether the address has a path besides the root.
    pub(crate) fn has_path(&self) -> bool {
        !self.path.is_empty()
    }

    /// Returns whether this address equals a resource or lies below it, by whole path segments.
    pub(crate) fn is_within(&self, resource: &Self) -> bool {
        let below = self.path.strip_prefix(&resource.path);
        // Whole segments only: `/mcpx` is not below `/mcp`.
        let below = below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.scheme == resource.scheme && self.host == resource.host && below
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_parse_into_well_known_forms() {
        let url = Url::parse("HTTPS://user@Example.com:443/a/b//?q#f").expect("an address");
        assert_eq!(url.well_known("x"), "https://example.com/.well-known/x/a/b");
        assert_eq!(url.root_well_known("x"), "https://example.com/.well-known/x");
        for bad in ["", "ftp://a/b", "https://", "a b", "https://a b/c"] {
            assert_eq!(Url::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn plain_http_is_loopback_only() {
        for (text, safe) in [
            ("https://a.test/x", true),
            ("http://localhost:9999/x", true),
            ("http://127.0.0.1", true),
            ("http://[::1]:8/x", true),
            ("http://localhost.evil.test", false),
            ("http://a.test", false),
        ] {
            assert_eq!(Url::parse(text).expect("an address").is_safe(), safe, "{text}");
        }
    }

    #[test]
    fn resource_covers_subpaths_only() {
        let url = |text| Url::parse(text).expect("an address");
        assert!(url("https://a/mcp").is_within(&url("https://A/mcp/")));
        assert!(url("https://a/mcp/x").is_within(&url("https://a/mcp")));
        assert!(url("https://a/mcp").is_within(&url("https://a")));
        assert!(!url("https://a/mcpx").is_within(&url("https://a/mcp")));
        assert!(!url("http://a/mcp").is_within(&url("https://a/mcp")));
    }
}
