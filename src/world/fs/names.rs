//! The names of a life's traces outside: refs, administrative directory, folders, signature.
//!
//! The one place that makes them. A name carries the id of the log and the nonce of the life, so
//! that two data directories on one repository, and a log that was put back or started over, never
//! meet in a name. Lives that an earlier version began have no nonce; what was made for them then
//! keeps its old name, which is only ever read. Nothing here looks at the disk.

use sha2::Digest as _;

use crate::core::Life;

/// Where the refs are that hold what no branch has.
pub(in crate::world) const RESCUES: &str = "refs/groundskeeper/rescue/";
/// Where git puts what it fetches, for a moment.
const FETCHES: &str = "refs/groundskeeper/fetch/";
/// Where the refs are that hold the HEAD of what lies in the trash.
pub(in crate::world) const TRASHES: &str = "refs/groundskeeper/trash/";

/// Folders of refs that are there for a while only.
pub(in crate::world) const PASSING: [&str; 2] = [FETCHES, TRASHES];

/// The names of one life's traces.
#[derive(Debug, Clone, Copy)]
pub(in crate::world) struct Names<'a> {
    log: &'a str,
    life: Life<'a>,
}

impl<'a> Names<'a> {
    /// The names in the log of this id (hex).
    pub(in crate::world) fn of(log: &'a str, life: Life<'a>) -> Self {
        Self { log: log.get(..8).unwrap_or(log), life }
    }

    /// `<incarnation>-<log>` and, where the life has one, `-<nonce>`.
    fn tag(self) -> String {
        let (incarnation, log) = (self.life.incarnation, self.log);
        let nonce = self.life.nonce.map(|nonce| format!("-{}", nonce.as_str()));
        format!("{incarnation}-{log}{}", nonce.unwrap_or_default())
    }

    /// The ref that holds what no branch has.
    pub(in crate::world) fn rescue(self) -> String {
        format!("{RESCUES}{}/{}", self.life.id, self.tag())
    }

    /// The ref that a purge leaves on a HEAD that nothing else holds any more.
    pub(in crate::world) fn rescued_head(self) -> String {
        format!("{}-head", self.rescue())
    }

    /// The ref that holds a repository which was inside the worktree, by its place there: another
    /// look finds the same one under the same name.
    pub(in crate::world) fn nested(self, path: &[u8]) -> String {
        let digest = crate::format::hex(&sha2::Sha256::digest(path)[..8]);
        format!("{}-nested-{digest}", self.rescue())
    }

    /// The ref that git puts on what it fetches, for the moment until the tracking ref is moved.
    pub(in crate::world) fn fetch(self) -> String {
        format!("{FETCHES}{}/{}", self.life.id, self.tag())
    }

    /// The ref that holds the HEAD of a worktree while it is in the trash.
    pub(in crate::world) fn trash(self) -> String {
        format!("{TRASHES}{}/{}", self.life.id, self.tag())
    }

    /// The name that an earlier version gave that ref; none for a life that it cannot have begun.
    pub(in crate::world) fn earlier_trash(self) -> Option<String> {
        let (id, incarnation) = (self.life.id, self.life.incarnation);
        self.life.nonce.is_none().then(|| format!("{TRASHES}{id}/{incarnation}"))
    }

    /// Who made a branch, as its history says.
    pub(in crate::world) fn signature(self) -> String {
        let (id, incarnation, log) = (self.life.id, self.life.incarnation, self.log);
        let nonce = self.life.nonce.map(|nonce| format!(".{}", nonce.as_str()));
        format!("{id}.{incarnation}.{log}{}@groundskeeper", nonce.unwrap_or_default())
    }

    /// The administrative directory in a repository.
    pub(in crate::world) fn admin(self) -> String {
        let (id, incarnation, log) = (self.life.id, self.life.incarnation, self.log);
        let nonce = self.life.nonce.map(|nonce| format!("-{}", nonce.short()));
        format!("gk-{id}-{incarnation}-{log}{}", nonce.unwrap_or_default())
    }
}

/// The folder of one life, in the trash and among the copies: unlike any other's of this data
/// directory.
pub(in crate::world) fn folder(life: Life<'_>) -> String {
    let nonce = life.nonce.map(|nonce| format!("-{}", nonce.short()));
    format!("{}.{}{}", life.id, life.incarnation, nonce.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{EnvironmentId, Nonce};

    #[test]
    fn no_two_lives_share_a_name() {
        let id = EnvironmentId::parse("demo").expect("an id");
        let nonces = ["0", "1"].map(|d| Nonce::parse(&d.repeat(32)).expect("a nonce"));
        let mut all = std::collections::BTreeSet::new();
        let mut lives = 0;
        for log in ["a".repeat(32), "b".repeat(32)] {
            for incarnation in [1, 2] {
                for nonce in [None, Some(&nonces[0]), Some(&nonces[1])] {
                    let names = Names::of(&log, Life { id: &id, incarnation, nonce });
                    let made = [
                        names.rescue(),
                        names.rescued_head(),
                        names.nested(b"a"),
                        names.trash(),
                        names.fetch(),
                        names.admin(),
                        names.signature(),
                    ];
                    lives += made.len();
                    all.extend(made);
                }
            }
        }
        assert_eq!(all.len(), lives);
        // A ref cannot lie below another one.
        for name in all.iter().filter(|name| name.starts_with("refs/")) {
            assert_eq!(name.matches('/').count(), 4, "{name}");
        }
    }

    #[test]
    fn names_of_earlier_versions_are_those_that_they_gave() {
        let id = EnvironmentId::parse("demo").expect("an id");
        let names = Names::of("0123456789abcdef", Life { id: &id, incarnation: 3, nonce: None });
        assert_eq!(names.admin(), "gk-demo-3-01234567");
        assert_eq!(names.signature(), "demo.3.01234567@groundskeeper");
        assert_eq!(names.earlier_trash().as_deref(), Some("refs/groundskeeper/trash/demo/3"));
    }
}
