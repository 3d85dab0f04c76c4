//! Named points at which a test can kill the daemon, as a power loss would.
//!
//! `GROUNDSKEEPER_KILL_AT=name` (or `name:3` for the third time) makes the process kill itself with
//! SIGKILL at that point. The points exist in builds with debug assertions or the feature `faults`;
//! a release does not have them. `GROUNDSKEEPER_KILL_LOG=file` appends the name of every point that
//! is reached, so that a test can prove that it covered all of them.

/// Names of all points, roughly in the order in which an environment passes them. [`point`] panics
/// on a name that is not here, outside a release.
pub const POINTS: &[&str] = &[
    "engine.decided",
    "engine.committed",
    "engine.replied",
    "trim.archived",
    "trim.committed",
    "trim.removed_some",
    "effect.started",
    "effect.performed",
    "add.claimed",
    "add.staged",
    "add.branched",
    "add.published",
    "add.checked_out",
    "refresh.proven",
    "include.inside_one",
    "include.copied_one",
    "hook.spawned",
    "hook.noted",
    "hook.released",
    "hook.ended",
    "rollback.directory_moved",
    "rollback.directory_gone",
    "rollback.hidden",
    "inner.brought",
    "raw.copied",
    "raw.listed",
    "rescue.committed",
    "rescue.referenced",
    "trash.proven",
    "trash.moved",
    "unregister.hidden",
    "unregister.moved",
    "branch.held",
    "late.looked",
    "branch.deleted",
    "branch.history",
    "ref.unpacked",
    "restore.staged",
    "restore.branched",
    "restore.moved",
    "restore.published",
    "restore.put_back",
    "rescue.applied",
    "rescue.copies_applied",
    "rescue.dropped",
    "fold.committed",
    "fold.referenced",
    "fold.unpacked",
    "fold.unlinked_one",
    "fold.unreferenced",
    "pack.verified",
    "pack.unlinked_one",
    "fold.dropped",
    "purge.proven",
    "purge.unlinked_one",
    "purge.unlinked",
    "clean.looked",
    "clean.renamed",
    "clean.moved_one",
    "clean.returned_one",
    "clean.proven",
    "clean.unlinked_one",
    "clean.unlinked",
    "sweep.unregistered",
    "sweep.trashed",
    "sweep.settled_one",
    "migrate.performed",
    "migrate.marked",
    "migrate.secrets_kept",
    "migrate.copied",
    "migrate.normalised",
    "migrate.built",
    "migrate.keychain_kept",
    "migrate.keychain_written",
    "migrate.secrets_written",
    "migrate.stamped",
    "migrate.settled",
    "migrate.verified",
    "flip.backed_up",
    "flip.installed",
    "migrate.copies_gone",
    "migrate.secrets_settled",
    "migrate.secrets_restored",
    "takeover.dropped",
    "takeover.installed",
    "undo.kept",
    "undo.returned",
    "undo.secrets_kept",
    "prune.noted",
    "prune.removed_one",
];

/// Kills the process here if a test asked for this point; otherwise returns at once.
#[inline]
pub fn point(name: &'static str) {
    #[cfg(any(debug_assertions, feature = "faults"))]
    armed::hit(name);
    #[cfg(not(any(debug_assertions, feature = "faults")))]
    let _ = name;
}

#[cfg(any(debug_assertions, feature = "faults"))]
mod armed {
    use std::io::Write as _;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Plan {
        name: Option<String>,
        left: AtomicU32,
        log: Option<std::path::PathBuf>,
    }

    fn plan() -> &'static Plan {
        static PLAN: OnceLock<Plan> = OnceLock::new();
        PLAN.get_or_init(|| {
            let text = std::env::var("GROUNDSKEEPER_KILL_AT").ok();
            let parts = text.as_deref().map(|t| t.split_once(':').unwrap_or((t, "1")));
            Plan {
                name: parts.map(|(name, _)| name.to_owned()),
                left: AtomicU32::new(parts.and_then(|(_, n)| n.parse().ok()).unwrap_or(1)),
                log: std::env::var_os("GROUNDSKEEPER_KILL_LOG").map(Into::into),
            }
        })
    }

    /// Ends the process as a kill from outside does: nothing is cleaned up.
    #[cfg(unix)]
    fn die() -> ! {
        let me = rustix::process::getpid();
        let _never = rustix::process::kill_process(me, rustix::process::Signal::KILL);
        // The signal ends all threads soon; until then this one must not pass the point.
        loop {
            std::thread::park();
        }
    }

    #[cfg(not(unix))]
    fn die() -> ! {
        std::process::abort()
    }

    pub(crate) fn hit(name: &'static str) {
        assert!(super::POINTS.contains(&name), "{name} is not in the list of kill points");
        let plan = plan();
        if let Some(path) = &plan.log
            && let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(path)
        {
            // One short write to a file opened for appending, so that lines of several threads do
            // not mix.
            drop(file.write_all(format!("{name}\n").as_bytes()));
        }
        if plan.name.as_deref() == Some(name) && plan.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            die();
        }
    }
}
