//! Choices that events store by name: the origin of a request, a checkout method, the policy of a
//! migration, the reasons of removals and of keeping.
//!
//! The codec would decode a reordered enum wrongly and silently, so the name is stored. A name that
//! this version does not know, as the log of another version may have it, is kept as it is.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! stored_names {
    ($($(#[$doc:meta])* $name:ident {
        $($(#[$variant_doc:meta])* $variant:ident = $text:literal;)*
    })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Eq)]
            pub enum $name {
                $($(#[$variant_doc])* $variant,)*
                /// A name that this version does not know; empty where none was given.
                Unknown(Box<str>),
            }

            impl $name {
                /// Returns the name that is stored and printed.
                #[must_use]
                pub fn as_str(&self) -> &str {
                    match self { $(Self::$variant => $text,)* Self::Unknown(name) => name }
                }
            }

            impl From<&str> for $name {
                fn from(name: &str) -> Self {
                    match name { $($text => Self::$variant,)* other => Self::Unknown(other.into()) }
                }
            }

            impl AsRef<str> for $name {
                fn as_ref(&self) -> &str {
                    self.as_str()
                }
            }

            impl Default for $name {
                fn default() -> Self {
                    Self::Unknown(Box::default())
                }
            }

            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(self.as_str())
                }
            }

            impl Serialize for $name {
                fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                    s.serialize_str(self.as_str())
                }
            }

            impl<'de> Deserialize<'de> for $name {
                fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                    String::deserialize(d).map(|name| Self::from(name.as_str()))
                }
            }
        )*
    };
}

stored_names! {
    /// The channel that a request came through.
    Origin {
        /// The Unix socket of this host.
        Api = "api";
        /// The TCP listener.
        Port = "port";
        /// The session with the control server.
        Session = "session";
        /// The daemon itself.
        Daemon = "daemon";
    }
    /// How the files of a worktree were put in place.
    CheckoutMethod {
        /// The daemon wrote them, several at a time.
        Parallel = "parallel";
        /// git wrote them.
        Git = "git";
        /// They came back from the trash.
        Restored = "restored";
        /// They were there before the environment was.
        Adopted = "adopted";
    }
    /// Why an environment is torn down.
    TeardownReason {
        /// A user or a program on this host requested it.
        Request = "request";
        /// Nothing of it was in use for some time.
        Gc = "gc";
        /// A sweep found it.
        Sweep = "sweep";
        /// The live set of the control server does not list it.
        Reconcile = "reconcile";
        /// The control server requested it by its name.
        Server = "server";
    }
    /// Why an environment that a live set does not list is left alone.
    KeepReason {
        /// A lease on it is in force.
        Leased = "leased";
        /// Processes run in it.
        Processes = "processes";
        /// It was adopted, so it is never removed.
        Adopted = "adopted";
        /// It began after the server had built the live set.
        Newer = "newer";
        /// The live set retires as many as one may; this one follows with a later one.
        More = "more";
    }
    /// What a migration does with rows that clash in the new database.
    ConflictPolicy {
        /// It ends, and names them.
        Refuse = "refuse";
        /// It leaves out all but the first.
        KeepFirst = "keep-first";
        /// It keeps all, under new names.
        Rename = "rename";
    }
    /// Why content in the trash is unlinked.
    PurgeReason {
        /// It was kept for as long as the settings say.
        Age = "age";
        /// The trash holds more bytes than the settings allow.
        Bytes = "bytes";
        /// The trash holds too many entries.
        Count = "count";
        /// The disk is nearly full.
        Disk = "disk";
        /// A requester wants it.
        Request = "request";
        /// A request names the entry and accepts the loss of its last copy.
        Lose = "lose";
        /// The clean that took it was requested with `--now`.
        Now = "now";
        /// The clean that took it ended without a result, so that its paths are unknown.
        Interrupted = "interrupted";
    }
}

impl PurgeReason {
    /// Returns the reason, or none for an empty name, which the state stores in place of none.
    pub(crate) fn given(self) -> Option<Self> {
        (!self.as_str().is_empty()).then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of another version must stay readable, and be the same when it is written again.
    #[test]
    fn unknown_name_round_trips() {
        for name in ["request", "lose", "", "a reason of a later version"] {
            let json = serde_json::to_string(name).expect("json");
            let read: PurgeReason = serde_json::from_str(&json).expect("any text is a name");
            assert_eq!(read.as_str(), name);
            assert_eq!(serde_json::to_string(&read).expect("json"), json);
        }
        assert_eq!(PurgeReason::from("lose"), PurgeReason::Lose);
        assert_eq!(Origin::default(), Origin::from(""));
    }
}
