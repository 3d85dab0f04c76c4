//! Guards that a test can disable, to show that a test would notice the damage they prevent.
//!
//! `GROUNDSKEEPER_GUARDS_OFF=nested,raw` makes the program behave as if those guards had never been
//! written. It exists in builds with debug assertions or the feature `faults`; in a release every
//! guard is enabled, and the query costs nothing. Nothing here knows the purpose of a guard.

/// Names of the guards that can be disabled, each with the damage that it prevents.
pub const GUARDS: &[(&str, &str)] = &[
    ("bad-refs", "one ref that git cannot read blocks a removal"),
    ("bytes", "a removal without --force loses an edit that a clean filter hides"),
    ("caller", "the GIT_* variables of the caller choose the repository"),
    ("copy", "a copied data directory changes what belongs to the original"),
    ("damage", "a damaged index prevents a rescue"),
    ("hidden", "edits that status is told not to show are lost"),
    ("history", "commits that only the history of HEAD holds are lost"),
    ("include", "included files are written through a link that a branch commits"),
    ("late", "a write between the last inspection and the move to the trash is lost"),
    ("life", "a restored log removes what it has no record of"),
    ("log", "worktrees and registrations of another log count as managed"),
    ("nested", "nested repositories are not detected"),
    ("purge", "the last copy is unlinked although its rescue ref is missing"),
    ("raw", "content that git does not store, or not byte for byte, is not copied"),
    ("standing", "a lock that no process holds is waited for"),
    ("unpushed", "commits on no other branch count as pushed"),
];

/// Returns whether a guard is enabled. A name that is not in [`GUARDS`] panics, outside a release.
#[inline]
#[must_use]
pub fn stands(name: &'static str) -> bool {
    #[cfg(any(debug_assertions, feature = "faults"))]
    return armed::stands(name);
    #[cfg(not(any(debug_assertions, feature = "faults")))]
    {
        let _ = name;
        true
    }
}

#[cfg(any(debug_assertions, feature = "faults"))]
mod armed {
    use std::sync::OnceLock;

    fn off() -> &'static [String] {
        static OFF: OnceLock<Vec<String>> = OnceLock::new();
        OFF.get_or_init(|| {
            let text = std::env::var("GROUNDSKEEPER_GUARDS_OFF").unwrap_or_default();
            text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
        })
    }

    pub(crate) fn stands(name: &'static str) -> bool {
        assert!(super::GUARDS.iter().any(|(known, _)| *known == name), "{name} is not in the list");
        !off().iter().any(|taken| taken == name)
    }
}
