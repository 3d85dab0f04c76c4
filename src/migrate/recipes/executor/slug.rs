//! Derives names from names: variables, connections, OAuth clients, and ids of secrets. Pure. The
//! results equal the original's.

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};

/// Returns the variable of a header or query parameter: its words joined with `_`.
pub(crate) fn variable(name: &str) -> String {
    runs(name).collect::<Vec<_>>().join("_")
}

/// Returns the name of a connection: the words of a text in camel case. A text without words gives
/// the fallback; a name that starts with a digit gets the fallback in front.
pub(crate) fn identifier(text: &str, fallback: &str) -> String {
    let mut words = runs(text);
    let Some(mut name) = words.next() else { return fallback.to_owned() };
    words.for_each(|word| name.push_str(&capitalised(&word)));
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return name;
    }
    format!("{fallback}{name}")
}

/// Returns the slug of an OAuth client: the second-level label of its token address's host, or
/// `client`.
pub(crate) fn host(token_url: &str) -> String {
    let host = authority(token_url).unwrap_or("client");
    let labels: Vec<&str> = host.split('.').collect();
    let label = if labels.len() > 1 { labels[labels.len() - 2] } else { host };
    Some(variable(label)).filter(|slug| !slug.is_empty()).unwrap_or_else(|| "client".to_owned())
}

/// Returns a name that is not in `taken`, and adds it: the name itself, or with `_2`, `_3` and so
/// on.
pub(crate) fn unique(name: &str, taken: &mut BTreeSet<String>) -> String {
    let mut free = name.to_owned();
    let mut n = 2_u32;
    while taken.contains(&free) {
        free = format!("{name}_{n}");
        n += 1;
    }
    taken.insert(free.clone());
    free
}

/// Returns the id under which the new generation keeps a secret: a digest over scope and old id.
pub(crate) fn item_id(scope: &str, id: &str) -> String {
    let mut hash = Sha256::new();
    for part in [scope, id] {
        hash.update(part.as_bytes());
        // A separator, so that different pairs cannot give the same input.
        hash.update([0]);
    }
    format!("secret_{}", base64url(&hash.finalize()))
}

/// Returns the SHA-256 of a text in lower-case hex.
pub(crate) fn sha256_hex(text: &str) -> String {
    let digits = |byte: &u8| {
        [byte >> 4, byte & 15].map(|half| char::from(b"0123456789abcdef"[usize::from(half)]))
    };
    Sha256::digest(text.as_bytes()).iter().flat_map(digits).collect()
}

/// Returns the words of a text: in lower case, the longest runs of `a-z0-9`.
fn runs(text: &str) -> impl Iterator<Item = String> {
    let lower = text.to_lowercase();
    let plain = |c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit());
    let words: Vec<String> =
        lower.split(plain).filter(|word| !word.is_empty()).map(str::to_owned).collect();
    words.into_iter()
}

fn capitalised(word: &str) -> String {
    let mut word = word.to_owned();
    if let Some(first) = word.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    word
}

/// Returns the text between `letters://` and the next slash or colon; none when it is empty. It is
/// deliberately no full parser of addresses, because it must give the original's results.
fn authority(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    let letters = !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphabetic());
    let host = rest.split(['/', ':']).next()?;
    (letters && !host.is_empty()).then_some(host)
}

fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        for at in 0..=chunk.len() {
            let digit = (bits >> (18 - 6 * at)) & 0x3f;
            out.push(char::from(DIGITS[digit as usize]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_match_original() {
        for (text, fallback, expected) in [
            ("Stripe key", "api-key", "stripeKey"),
            ("Axiom MCP OAuth", "account", "axiomMcpOauth"),
            ("rhys@example.com", "account", "rhysExampleCom"),
            ("123 abc", "account", "account123Abc"),
            ("123", "", "123"),
            ("1password token", "", "1passwordToken"),
            ("9lives", "api-key", "api-key9lives"),
            ("\u{212a}elvin", "", "kelvin"),
            ("İx", "", "iX"),
            ("---", "account", "account"),
            ("日本", "", ""),
        ] {
            assert_eq!(identifier(text, fallback), expected, "{text}");
        }
        assert_eq!(variable("DD-API-KEY"), "dd_api_key");
        assert_eq!(variable("__X__y "), "x_y");
    }

    #[test]
    fn host_names_match_original() {
        for (url, expected) in [
            ("https://login.microsoftonline.com/common/token", "microsoftonline"),
            ("https://t.co.uk/token", "co"),
            ("http://localhost:9999", "localhost"),
            ("https://[::1]/token", "client"),
            ("HTTPS://127.0.0.1/x", "0"),
            ("", "client"),
            ("h2://a.b/c", "client"),
            ("https:///x", "client"),
        ] {
            assert_eq!(host(url), expected, "{url}");
        }
    }

    #[test]
    fn item_ids_match_original() {
        let scope = "workspace-1a2b3c4d";
        assert_eq!(
            item_id(scope, "stripe-key"),
            "secret_JW_U5rihWOG8czK7TqVMw-qtq9uu-L140dAI_mQVlSI"
        );
        let inline = item_id(scope, "text:t_text:header:authorization");
        assert_eq!(inline, "secret_7SFqT5tK_aIggKNwuC5jAarCXD9aFKPxa0ZV7ytllsA");
        let spec = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        assert_eq!(sha256_hex("{}"), spec);
    }

    #[test]
    fn taken_name_gets_numeric_suffix() {
        let mut taken = BTreeSet::new();
        let names = ["a", "a", "a_2", "a"].map(|name| unique(name, &mut taken));
        assert_eq!(names, ["a", "a_2", "a_2_2", "a_3"]);
    }
}
