//! Names of an incarnation's traces outside the log: refs, admin directory, folders, signature.
//!
//! All such names are made here. A name carries the id of the log and the nonce of the incarnation.
//! So two data directories on one repository, or a log that was restored from a backup or started
//! anew, never use the same name. Incarnations begun by an earlier version have no nonce. Their
//! traces keep the old name, which is only ever read. Nothing here accesses the disk.

use sha2::Digest as _;

use crate::core::Life;
use crate::core::event::FOLDED;

/// Prefix of the refs that hold work which no branch has.
pub(in crate::world) const RESCUES: &str = "refs/groundskeeper/rescue/";
/// Prefix of the refs that git writes during a fetch; each exists for a moment only.
const FETCHES: &str = "refs/groundskeeper/fetch/";
/// Prefix of the refs that hold the HEAD of a worktree in the trash.
pub(in crate::world) const TRASHES: &str = "refs/groundskeeper/trash/";

/// Prefixes of all refs of ours that have a folder for each environment.
pub(in crate::world) const KINDS: [&str; 3] = [RESCUES, FETCHES, TRASHES];
/// Prefixes of refs that are temporary.
pub(in crate::world) const PASSING: [&str; 2] = [FETCHES, TRASHES];

/// Derives the names of one incarnation's traces.
#[derive(Debug, Clone, Copy)]
pub(in crate::world) struct Names<'a> {
    log: &'a str,
    life: Life<'a>,
}

impl<'a> Names<'a> {
    /// Creates the names for a log, given its id in hex; the first 8 digits are used.
    pub(in crate::world) fn of(log: &'a str, life: Life<'a>) -> Self {
        Self { log: log.get(..8).unwrap_or(log), life }
    }

    /// Returns `<incarnation>-<log>` and, where the incarnation has a nonce, `-<nonce>`.
    fn tag(self) -> String {
        let (incarnation, log) = (self.life.incarnation, self.log);
        let nonce = self.life.nonce.map(|nonce| format!("-{}", nonce.as_str()));
        format!("{incarnation}-{log}{}", nonce.unwrap_or_default())
    }

    /// Returns the ref that holds work which no branch has.
    pub(in crate::world) fn rescue(self) -> String {
        format!("{RESCUES}{}/{}", self.life.id, self.tag())
    }

    /// Returns the ref that a purge sets on a HEAD which nothing else holds any more.
    pub(in crate::world) fn rescued_head(self) -> String {
        format!("{}-head", self.rescue())
    }

    /// Returns the ref that holds a nested repository. The name is a digest of its path in the
    /// worktree, so that a second inspection finds the same repository under the same name.
    pub(in crate::world) fn nested(self, path: &[u8]) -> String {
        let digest = crate::format::hex(&sha2::Sha256::digest(path)[..8]);
        format!("{}-nested-{digest}", self.rescue())
    }

    /// Returns the ref that git writes during a fetch, until the tracking ref is moved.
    pub(in crate::world) fn fetch(self) -> String {
        format!("{FETCHES}{}/{}", self.life.id, self.tag())
    }

    /// Returns the ref that holds the HEAD of a worktree while it is in the trash.
    pub(in crate::world) fn trash(self) -> String {
        format!("{TRASHES}{}/{}", self.life.id, self.tag())
    }

    /// Returns the name that an earlier version gave that ref, or `None` for an incarnation that
    /// such a version cannot have begun.
    pub(in crate::world) fn earlier_trash(self) -> Option<String> {
        let (id, incarnation) = (self.life.id, self.life.incarnation);
        self.life.nonce.is_none().then(|| format!("{TRASHES}{id}/{incarnation}"))
    }

    /// Returns the committer address in a branch's reflog that proves which incarnation created it.
    pub(in crate::world) fn signature(self) -> String {
        let (id, incarnation, log) = (self.life.id, self.life.incarnation, self.log);
        let nonce = self.life.nonce.map(|nonce| format!(".{}", nonce.as_str()));
        format!("{id}.{incarnation}.{log}{}@groundskeeper", nonce.unwrap_or_default())
    }

    /// Returns the name of the administrative directory below `worktrees` in a repository.
    pub(in crate::world) fn admin(self) -> String {
        let (id, incarnation, log) = (self.life.id, self.life.incarnation, self.log);
        let nonce = self.life.nonce.map(|nonce| format!("-{}", nonce.short()));
        format!("gk-{id}-{incarnation}-{log}{}", nonce.unwrap_or_default())
    }
}

/// Returns the ref that holds the folded rescues of a log, given its whole id.
pub(in crate::world) fn folded(log: &str) -> String {
    format!("{FOLDED}{log}")
}

/// Returns whether a ref of a rescue is named for another log than this one. Names that earlier
/// versions gave may name no log.
pub(in crate::world) fn is_of_another_log(reference: &str, log: &str) -> bool {
    let tag = reference.rsplit('/').next().unwrap_or_default();
    tag.split('-').nth(1).is_some_and(|named| !log.starts_with(named) || named.is_empty())
}

/// Returns the folder name of one incarnation, in the trash and among the copies. It is unique in
/// this data directory.
pub(in crate::world) fn folder(life: Life<'_>) -> String {
    let nonce = life.nonce.map(|nonce| format!("-{}", nonce.short()));
    format!("{}.{}{}", life.id, life.incarnation, nonce.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{EnvironmentId, Nonce};

    /// Names differ between logs, incarnations and nonces.
    #[test]
    fn incarnation_names_are_unique() {
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
        // git refuses a ref below another ref, so all of them have the same depth.
        for name in all.iter().filter(|name| name.starts_with("refs/")) {
            assert_eq!(name.matches('/').count(), 4, "{name}");
        }
    }

    #[test]
    fn rescue_of_another_log_is_told_by_name() {
        let id = EnvironmentId::parse("my-demo").expect("an id");
        let nonce = Nonce::parse(&"0".repeat(32)).expect("a nonce");
        let (own, other) = ("a".repeat(32), "b".repeat(32));
        for nonce in [None, Some(&nonce)] {
            let names = Names::of(&own, Life { id: &id, incarnation: 1, nonce });
            for name in [names.rescue(), names.nested(b"a")] {
                assert!(!is_of_another_log(&name, &own), "{name}");
                assert!(is_of_another_log(&name, &other), "{name}");
            }
        }
        assert!(!is_of_another_log("refs/groundskeeper/rescue/my-demo/1", &own));
    }

    #[test]
    fn earlier_version_names_are_unchanged() {
        let id = EnvironmentId::parse("demo").expect("an id");
        let names = Names::of("0123456789abcdef", Life { id: &id, incarnation: 3, nonce: None });
        assert_eq!(names.admin(), "gk-demo-3-01234567");
        assert_eq!(names.signature(), "demo.3.01234567@groundskeeper");
        assert_eq!(names.earlier_trash().as_deref(), Some("refs/groundskeeper/trash/demo/3"));
    }
}
