//! Removes secrets from text before it is stored: user information and tokens in URLs, and the
//! values of environment variables whose names mark them as secret.
//!
//! [`Redactor`] does it for a stream in arbitrary pieces: a line is held back until it is complete,
//! so a value that is split over two writes is found. It never guesses from the form of a value
//! alone, and it does not protect against a program that leaks secrets on purpose.

use std::ops::Range;

/// Shortest value of a variable that is removed, in bytes: a shorter one is part of ordinary words.
const VALUE_BYTES_MIN: usize = 8;
/// Longest line that is held back until it is complete, in bytes.
const LINE_BYTES_MAX: usize = 64 << 10;
const REMOVED: &[u8] = b"[secret]";
/// Substrings that mark the name of a variable as secret.
const NAMES: [&str; 10] = [
    "TOKEN",
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "API_KEY",
    "APIKEY",
    "PRIVATE_KEY",
    "ACCESS_KEY",
    "CREDENTIAL",
];
/// Words (between underscores) that mark a name as secret, and last words that make it harmless.
const WORDS: [&str; 8] = ["AUTH", "COOKIE", "COOKIES", "KEY", "PASS", "PAT", "PWD", "SIGNATURE"];
const HARMLESS: [&str; 6] = ["SOCK", "FILE", "PATH", "DIR", "ID", "COMMAND"];
/// Substrings that mark the name of a URL parameter as secret, and complete names that do.
const PARAMETERS: [&[u8]; 8] = [
    b"token",
    b"secret",
    b"password",
    b"passwd",
    b"apikey",
    b"accesskey",
    b"signature",
    b"credential",
];
const WHOLE_PARAMETERS: [&[u8]; 6] = [b"auth", b"key", b"pass", b"passphrase", b"pwd", b"sig"];

/// The values to remove, longest first.
#[derive(Debug, Clone, Default)]
pub(in crate::world) struct Secrets(Vec<Vec<u8>>);

impl Secrets {
    /// Returns the secret values in the environment of this process, which its children inherit.
    pub(in crate::world) fn of_environment() -> Self {
        use std::os::unix::ffi::OsStringExt as _;
        let variables = std::env::vars_os();
        Self::of(
            variables.map(|(name, value)| (name.to_string_lossy().into_owned(), value.into_vec())),
        )
    }

    fn of(variables: impl Iterator<Item = (String, Vec<u8>)>) -> Self {
        let secret = variables.filter(|(name, _)| is_secret_name(&name.to_ascii_uppercase()));
        let mut values = Vec::new();
        for (_, value) in secret {
            // Programs print a key of several lines line by line.
            let lines = value.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
            values.extend(lines.filter(|l| l.len() >= VALUE_BYTES_MIN).map(<[u8]>::to_vec));
        }
        // Longest first: a value may be part of another one.
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        values.dedup();
        Self(values)
    }

    /// Returns the text with each secret replaced by a placeholder.
    pub(in crate::world) fn remove(&self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len());
        let mut at = 0;
        for found in self.find(text) {
            out.extend_from_slice(&text[at..found.start]);
            out.extend_from_slice(REMOVED);
            at = found.end;
        }
        out.extend_from_slice(&text[at..]);
        out
    }

    /// Returns the ranges of secrets, in order and without overlap.
    fn find(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut found: Vec<Range<usize>> = in_urls(text);
        for value in &self.0 {
            let mut at = 0;
            while let Some(start) = position(&text[at..], value).map(|n| n + at) {
                at = start + value.len();
                found.push(start..at);
            }
        }
        found.sort_by_key(|range| range.start);
        let mut merged: Vec<Range<usize>> = Vec::with_capacity(found.len());
        for range in found {
            match merged.last_mut() {
                Some(last) if range.start < last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        merged
    }
}

fn is_secret_name(name: &str) -> bool {
    let last = name.rsplit('_').next().unwrap_or_default();
    if ["PWD", "OLDPWD"].contains(&name) || HARMLESS.contains(&last) {
        return false;
    }
    NAMES.iter().any(|part| name.contains(part))
        || name.split('_').any(|word| WORDS.contains(&word))
}

/// Returns the user information and the values of secret parameters in the URLs of a text.
pub(in crate::world) fn in_urls(text: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = position(&text[at..], b"://").map(|n| n + at + 3) {
        let is_part =
            |b: &u8| !(b.is_ascii_whitespace() || b.is_ascii_control() || b"'\"<>`".contains(b));
        let length = text[start..].iter().position(|b| !is_part(b)).unwrap_or(text.len() - start);
        let url = &text[start..start + length];
        let authority = authority(url);
        if let Some(end) = url[..authority].iter().rposition(|b| *b == b'@') {
            found.push(start..start + end);
        }
        found.extend(parameters(url, authority).map(|r| start + r.start..start + r.end));
        at = start + length;
    }
    found
}

/// Returns the length of the URL's authority part. A password may contain a character that normally
/// ends this part; then the text after its colon is no port, and the last `@` ends it.
fn authority(url: &[u8]) -> usize {
    let end = url.iter().position(|b| b"/?#".contains(b)).unwrap_or(url.len());
    let host = &url[..end];
    let port = host.iter().position(|b| *b == b':').map(|colon| &host[colon + 1..]);
    let is_port = |port: &[u8]| port.iter().all(u8::is_ascii_digit);
    let is_cut = !host.contains(&b'@') && !host.starts_with(b"[");
    match (port.filter(|port| is_cut && !is_port(port)), url.iter().rposition(|b| *b == b'@')) {
        (Some(_), Some(at)) => at + 1,
        _ => end,
    }
}

fn parameters(url: &[u8], authority: usize) -> impl Iterator<Item = Range<usize>> {
    let begins = |b: &u8| b"?#&;".contains(b);
    let starts = (authority..url.len()).filter(move |n| begins(&url[*n])).map(|n| n + 1);
    starts.filter_map(move |start| {
        let end = url[start..].iter().position(begins).map_or(url.len(), |n| n + start);
        let equals = url[start..end].iter().position(|b| *b == b'=')? + start;
        let mut name = url[start..equals].to_ascii_lowercase();
        name.retain(|b| !b"-_".contains(b));
        let secret = PARAMETERS.iter().any(|part| position(&name, part).is_some())
            || WHOLE_PARAMETERS.contains(&name.as_slice());
        (secret && equals + 1 < end).then_some(equals + 1..end)
    })
}

fn position(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len().max(1)).position(|window| window == wanted)
}

/// Returns text for people without the secrets of this process.
pub(in crate::world) fn text(text: &str) -> String {
    let found = Secrets::of_environment().remove(text.as_bytes());
    String::from_utf8_lossy(&found).into_owned()
}

/// A stream from which secrets are removed.
#[derive(Debug)]
pub(in crate::world) struct Redactor {
    secrets: Secrets,
    /// Bytes received and not returned yet.
    held: Vec<u8>,
}

impl Redactor {
    pub(in crate::world) fn new(secrets: Secrets) -> Self {
        Self { secrets, held: Vec::new() }
    }

    /// Accepts the next bytes, and returns the part that is complete.
    pub(in crate::world) fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(bytes);
        let mut cut = self.held.iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
        if cut == 0 && self.held.len() > LINE_BYTES_MAX {
            cut = self.forced_cut();
        }
        let rest = self.held.split_off(cut);
        let whole = std::mem::replace(&mut self.held, rest);
        self.secrets.remove(&whole)
    }

    /// Returns the rest after the end of the stream.
    pub(in crate::world) fn finish(&mut self) -> Vec<u8> {
        self.secrets.remove(&std::mem::take(&mut self.held))
    }

    /// Returns where an endless line is cut: where no secret is, and none may begin.
    fn forced_cut(&self) -> usize {
        let longest = self.secrets.0.first().map_or(0, Vec::len);
        let mut cut = self.held.len().saturating_sub(longest.max(LINE_BYTES_MAX / 4));
        for found in self.secrets.find(&self.held) {
            if found.contains(&cut) {
                cut = found.start;
            }
        }
        // The whole held text is one secret: it is returned at once, replaced.
        if cut == 0 { self.held.len() } else { cut }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> Secrets {
        let of = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
        Secrets::of(
            [
                of("GITHUB_TOKEN", "abcdefgh1234"),
                of("MY_SECRET", "short"),
                of("DEPLOY_PRIVATE_KEY", "-----BEGIN KEY-----\nfirst-line-of-it\nxyz\n"),
                of("HOME", "/home/user"),
                of("NPM_AUTH", "12345678"),
            ]
            .into_iter(),
        )
    }

    /// Other text stays unchanged.
    #[test]
    fn values_and_urls_are_redacted_only() {
        let secrets = secrets();
        let out = |text: &str| String::from_utf8(secrets.remove(text.as_bytes())).expect("text");
        for (text, wanted) in [
            ("key=abcdefgh1234!", "key=[secret]!"),
            ("abcdefgh123 short /home/user", "abcdefgh123 short /home/user"),
            ("a first-line-of-it b xyz", "a [secret] b xyz"),
            ("12345678abcdefgh1234", "[secret][secret]"),
            ("https://me:pw@host/x?y=1 z", "https://[secret]@host/x?y=1 z"),
            ("see 'https://ghp_abc@host/x'", "see 'https://[secret]@host/x'"),
            ("https://host/a@b?q=c@d", "https://host/a@b?q=c@d"),
            ("https://h/?a=1&access_token=abc&b=2#t", "https://h/?a=1&access_token=[secret]&b=2#t"),
            ("https://h/?X-Amz-Signature=abc", "https://h/?X-Amz-Signature=[secret]"),
            ("https://h/?sig=abc&design=x&author=y", "https://h/?sig=[secret]&design=x&author=y"),
            (
                "https://h/?api-key=abc&access_key=d",
                "https://h/?api-key=[secret]&access_key=[secret]",
            ),
            ("https://me:a/b@host/x http://h:80/a@b", "https://[secret]@host/x http://h:80/a@b"),
            ("ssh://git@host/x and a://b", "ssh://[secret]@host/x and a://b"),
            ("://", "://"),
        ] {
            assert_eq!(out(text), wanted, "{text}");
        }
    }

    #[test]
    fn secret_names_are_recognised() {
        for secret in ["DB_PASS", "MYSQL_PWD", "OPENAI_KEY", "GITHUB_TOKEN", "PAT", "X_COOKIE"] {
            assert!(is_secret_name(secret), "{secret}");
        }
        for other in ["PWD", "OLDPWD", "PATH", "SSH_AUTH_SOCK", "KEYBOARD", "MODE", "TOKEN_FILE"] {
            assert!(!is_secret_name(other), "{other}");
        }
    }

    #[test]
    fn secret_across_stream_cuts_is_redacted() {
        let text = "one abcdefgh1234 two\nhttps://me:password@host/x\nlast abcdefgh1234";
        let whole = secrets().remove(text.as_bytes());
        for cut in 0..text.len() {
            for second in cut..text.len() {
                let mut stream = Redactor::new(secrets());
                let mut out = stream.take(&text.as_bytes()[..cut]);
                out.extend(stream.take(&text.as_bytes()[cut..second]));
                out.extend(stream.take(&text.as_bytes()[second..]));
                out.extend(stream.finish());
                assert_eq!(out, whole, "cut at {cut} and {second}");
            }
        }
    }

    #[test]
    fn endless_line_is_bounded_and_redacted() {
        let secrets = Secrets(vec![b"abcdefgh1234".to_vec()]);
        let filler = "x".repeat(1_000);
        let mut stream = Redactor::new(secrets);
        let mut out = Vec::new();
        for n in 0..500_usize {
            out.extend(stream.take(&filler.as_bytes()[..n * 7 % 1_000]));
            for piece in ["abcd", "efgh", "1234"] {
                out.extend(stream.take(piece.as_bytes()));
            }
            assert!(stream.held.len() <= LINE_BYTES_MAX + 1_000);
        }
        out.extend(stream.finish());
        assert_eq!(position(&out, b"abcdefgh1234"), None);
        assert_eq!(String::from_utf8_lossy(&out).matches("[secret]").count(), 500);
    }
}
