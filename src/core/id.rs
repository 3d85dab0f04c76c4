//! Identifiers and values: environments, leases, log positions, effects, times and paths.
//!
//! Every identifier is a type of its own, so that a lease can never be passed where an environment
//! is meant. `parse` validates text from outside once; after that a value of one of these types is
//! known to be safe in a file name, a branch name and a terminal. Nothing here reads clock or file.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest environment id in bytes; leaves room for the suffixes of file names.
pub const ENVIRONMENT_ID_BYTES_MAX: usize = 64;
/// Longest idempotency key in bytes.
pub const REQUEST_ID_BYTES_MAX: usize = 128;

/// Reason why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is empty.
    #[error("it is empty")]
    Empty,
    /// The text is longer than the limit: its length and the limit, in bytes.
    #[error("it has {0} bytes, at most {1} are allowed")]
    TooLong(usize, usize),
    /// A character is outside the allowed set.
    #[error("the character {0:?} is not allowed")]
    BadCharacter(char),
    /// The shape has a special meaning for git or a file system, or is not that of the type.
    #[error("{0}")]
    BadShape(&'static str),
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub struct $name(String);

        impl $name {
            /// Returns the text of the id.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = String::deserialize(d)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

text_id!(
    /// The id of an environment: letters, digits, `.`, `_` and `-`, starting with a letter or
    /// digit. It serves as a directory name and as the last part of a branch name.
    EnvironmentId
);
text_id!(
    /// The id of a lease, made by the caller that requests it.
    LeaseId
);
text_id!(
    /// The id of a migration: eight hex digits, made outside the core. The files of a migration
    /// carry it, which tells them from the files of other programs.
    MigrationId
);
text_id!(
    /// Identifies one incarnation on any log: 128 random bits in hex, made outside the core. Id and
    /// incarnation number can repeat when a log is restored or started over; a nonce cannot.
    Nonce
);
text_id!(
    /// An idempotency key that a client chose for one request.
    RequestId
);

impl EnvironmentId {
    /// Checks that `text` can be an environment id.
    ///
    /// # Errors
    /// [`IdError`] names the first violation.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        check(text, ENVIRONMENT_ID_BYTES_MAX)?;
        if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(IdError::BadShape("it must start with a letter or a digit"));
        }
        // git rejects these shapes in ref names, and the id is part of one.
        if text.contains("..") {
            return Err(IdError::BadShape("it must not contain '..'"));
        }
        if text.ends_with('.') || text.to_ascii_lowercase().ends_with(".lock") {
            return Err(IdError::BadShape("it must not end in '.' or '.lock'"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl LeaseId {
    /// Checks that `text` can be a lease id.
    ///
    /// # Errors
    /// [`IdError`] names the first violation.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        check(text, ENVIRONMENT_ID_BYTES_MAX)?;
        Ok(Self(text.to_owned()))
    }
}

impl MigrationId {
    /// Checks that `text` can be a migration id.
    ///
    /// # Errors
    /// [`IdError::BadShape`] for any other text than eight lower-case hex digits.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let fits = text.len() == 8 && text.bytes().all(|b| b"0123456789abcdef".contains(&b));
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdError::BadShape("it must be eight hex digits"))
        }
    }
}

impl Nonce {
    /// Checks that `text` can be a nonce.
    ///
    /// # Errors
    /// [`IdError::BadShape`] for any other text than 32 lower-case hex digits.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let fits = text.len() == 32 && text.bytes().all(|b| b"0123456789abcdef".contains(&b));
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdError::BadShape("it must be 32 hex digits"))
        }
    }

    /// Returns the first 32 bits in hex, for a short name where other facts decide identity.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..8).unwrap_or(&self.0)
    }
}

impl RequestId {
    /// Checks that `text` can be an idempotency key: printable ASCII without spaces.
    ///
    /// # Errors
    /// [`IdError`] names the first violation.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        length(text, REQUEST_ID_BYTES_MAX)?;
        match text.chars().find(|c| !c.is_ascii_graphic()) {
            Some(bad) => Err(IdError::BadCharacter(bad)),
            None => Ok(Self(text.to_owned())),
        }
    }
}

fn length(text: &str, max: usize) -> Result<(), IdError> {
    match text.len() {
        0 => Err(IdError::Empty),
        n if n > max => Err(IdError::TooLong(n, max)),
        _ => Ok(()),
    }
}

fn check(text: &str, max: usize) -> Result<(), IdError> {
    length(text, max)?;
    match text.chars().find(|c| !(c.is_ascii_alphanumeric() || "._-".contains(*c))) {
        Some(bad) => Err(IdError::BadCharacter(bad)),
        None => Ok(()),
    }
}

/// A position in the log. The first record has seq 1; 0 means "before the first".
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Seq(pub u64);

impl Seq {
    /// Returns the position after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Wall-clock time in nanoseconds since 1970-01-01 UTC, read outside the core and passed in.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Time(pub u64);

impl Time {
    /// Returns this time plus `span`, at most the end of the range (the year 2554).
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }

    /// Returns this time less `span`, at least the beginning of the range (1970).
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(nanos))
    }

    /// Returns the span from `earlier` to this time; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

macro_rules! subjects {
    ($($(#[$doc:meta])* $kind:ident $(($($id:ty),*))?;)*) => {
        /// The subject of an effect. Each subject has one slot: two effects for one never run at
        /// once.
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Subject { $($(#[$doc])* $kind $(($($id),*))?),* }

        /// A kind of subjects.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum SubjectKind { $($kind),* }

        impl SubjectKind {
            /// All kinds, in the order in which their effects are started.
            pub(crate) const ALL: [Self; [$(Self::$kind),*].len()] = [$(Self::$kind),*];
        }
    };
}

subjects! {
    /// The current incarnation of an environment.
    Environment(EnvironmentId);
    /// The archive of an ended incarnation.
    Archive(EnvironmentId, u32);
    /// The output of one clean: the environment, and the record that requested it.
    Output(EnvironmentId, Seq);
    /// A database under migration.
    Migration(MigrationId);
    /// The whole data directory.
    Host;
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(id) => id.fmt(f),
            Self::Archive(id, incarnation) => write!(f, "{id}.{incarnation}"),
            Self::Output(id, clean) => write!(f, "{id} clean {clean}"),
            Self::Migration(id) => write!(f, "migration {id}"),
            Self::Host => f.write_str("host"),
        }
    }
}

/// Identity of one owed effect: its subject, and the seq of the record that made it owed.
///
/// One value serves as idempotency key, fencing token and correlation id. It is the same after a
/// restart, because it is read from the log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EffectId {
    /// The subject of the effect.
    pub subject: Subject,
    /// The record that entered the step.
    pub entered: Seq,
}

impl fmt::Display for EffectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.subject, self.entered)
    }
}

/// A path as the operating system has it: any bytes but NUL, also newlines and broken UTF-8.
///
/// The log keeps the bytes; users and JSON get replacement characters for what is not UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct HostPath(pub Vec<u8>);

/// One incarnation of an environment, as the parts of its names outside the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life<'a> {
    /// The environment's id.
    pub id: &'a EnvironmentId,
    /// Number of the incarnation, counted from 1.
    pub incarnation: u32,
    /// Nonce of the incarnation; none where an earlier version began it.
    pub nonce: Option<&'a Nonce>,
}

impl HostPath {
    /// Returns the path moved below another folder, if it lies in `from` or is `from` itself.
    #[must_use]
    pub fn rebased(&self, from: &Self, to: &Self) -> Option<Self> {
        let rest = self.0.strip_prefix(from.0.as_slice())?;
        let inside = rest.is_empty() || rest.starts_with(b"/");
        (inside && !from.0.is_empty()).then(|| Self([to.0.as_slice(), rest].concat()))
    }

    /// Returns the folder that the path lies in; none for a path without a slash.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let end = self.0.iter().rposition(|b| *b == b'/')?;
        Some(Self(self.0[..end].to_vec()))
    }

    /// Returns the bytes of the path.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for HostPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for HostPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl From<&str> for HostPath {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl Serialize for HostPath {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { s.collect_str(self) } else { self.0.serialize(s) }
    }
}

impl<'de> Deserialize<'de> for HostPath {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            String::deserialize(d).map(|text| Self(text.into_bytes()))
        } else {
            Vec::<u8>::deserialize(d).map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An id must be usable as a file name and as a branch name.
    #[test]
    fn environment_id_rejects_unsafe_names() {
        for good in ["demo", "a", "A1", "x.y_z-1", "0"] {
            assert!(EnvironmentId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-x", ".x", "a..b", "a.", "a.lock", "a.LOCK", "a/b", "a b", "é", "a\n"] {
            assert!(EnvironmentId::parse(bad).is_err(), "{bad:?}");
        }
        assert!(EnvironmentId::parse(&"a".repeat(65)).is_err());
    }

    #[test]
    fn host_path_preserves_non_utf8_bytes() {
        let path = HostPath(vec![b'/', 0xff, b'\n']);
        assert_eq!(path.to_string(), "/\u{fffd}\n");
        assert_eq!(path.as_bytes(), [b'/', 0xff, b'\n']);
    }
}
