//! Computes the status of a worktree: branch, distance, changes, operation. Reads only.
//!
//! git's own status is authoritative (`parse.rs` parses it). One status costs at most four
//! processes, whatever the size of the tree. It takes no lock and writes no object and no index: an
//! existing untracked cache is used, but never created. `cache.rs` stores and shares results,
//! `incremental.rs` updates one from the changed paths, `patch.rs` shows the changes themselves.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use crate::core::{Code, Environment, Fault, Phase, destroyed};
use crate::world::fs::paths;
use crate::world::git;
use crate::world::git::command::Git;
use crate::world::git::index::format::Hash;
use crate::world::git::{link, refs};
use crate::world::process::cancel::Cancel;
use crate::world::status::incremental::Since;
use crate::world::status::parse::Changes;
use crate::world::status::types::Status;

/// Time limit of each git call of a status.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// Bound on the paths that limit a diff; with more, git compares all.
const DIFF_PATHS_MAX: usize = 100;

/// Files in the git directory that show an operation in progress, in order of precedence: file
/// name, name for `status`, phrase for people.
pub(in crate::world) const OPERATIONS: [(&str, &str, &str); 7] = [
    ("rebase-merge", "rebase", "a rebase"),
    ("rebase-apply/applying", "am", "`git am`"),
    ("rebase-apply", "rebase", "a rebase"),
    ("MERGE_HEAD", "merge", "a merge"),
    ("CHERRY_PICK_HEAD", "cherry-pick", "a cherry-pick"),
    ("REVERT_HEAD", "revert", "a revert"),
    ("BISECT_LOG", "bisect", "a bisect"),
];

/// Returns the worktree and the git directory of an environment, if it can be inspected.
///
/// # Errors
/// When the environment is destroyed or not made yet, or its worktree is missing or no longer leads
/// to the recorded repository.
pub(super) fn place(env: &Environment) -> Result<(&Path, &Path), Fault> {
    if env.phase == Phase::Tombstoned {
        return Err(destroyed(&env.id));
    }
    let Some(worktree) = &env.worktree else {
        if env.phase == Phase::Provisioning {
            let message = format!("{} is still being created", env.id);
            let hint = format!("wait until `groundskeeper show {}` shows it ready", env.id);
            return Err(Fault::new(Code::EnvironmentBusy, message, hint).transient());
        }
        let message = format!("{} has no worktree", env.id);
        let hint = format!("run `groundskeeper show {}` to see why", env.id);
        return Err(Fault::new(Code::PathNotFound, message, hint));
    };
    let (target, admin) = (paths::borrowed(&env.plan.path), paths::borrowed(&worktree.admin_dir));
    if !target.is_dir() {
        let (id, target) = (&env.id, target.display());
        let message = format!("the worktree of {id} is missing: {target} does not exist");
        let hint = format!("move it back, or run `groundskeeper rm {id} --force`");
        return Err(Fault::new(Code::PathNotFound, message, hint));
    }
    if link::repository(target, admin).is_none() {
        let message = format!("{} is no longer the git worktree of {}", target.display(), env.id);
        let hint = "run `git worktree repair` in its repository";
        return Err(Fault::new(Code::NotGitRepo, message, hint));
    }
    Ok((target, admin))
}

/// Computes the status of a worktree once, limited to the changes since an earlier result
/// where these are known.
///
/// # Errors
/// As `place`, or when git fails or exceeds its time limit.
pub(in crate::world) fn compute_status(
    env: &Environment,
    since: Option<&Since>,
    cancel: &Cancel,
) -> Result<Status, Fault> {
    let (target, admin) = place(env)?;
    let git = Git::exact(admin, Some(target), None, cancel).within(LIMIT);
    let known = match since {
        Some(since) => changes_since(env, admin, &git, since)?,
        None => None,
    };
    let is_known = known.is_some();
    let changes = match known {
        Some(changes) => changes,
        None => query_git(&git, ["--branch", "--show-stash"].map(OsStr::new))?,
    };
    let (base, lines) = std::thread::scope(|scope| {
        // Neither HEAD nor a ref has moved since: such a change has no known path.
        let before =
            since.filter(|_| is_known).map(|s| (s.before.ahead_of_base, s.before.behind_base));
        let base = before.is_none().then(|| scope.spawn(|| distance(env, &git, &changes)));
        let lines = lines(&git, &changes);
        let found = base.map(|base| base.join().unwrap_or((None, None)));
        (before.or(found).unwrap_or((None, None)), lines)
    });
    let (insertions, deletions, lines_complete) = lines?;
    let there = |name: &str| admin.join(name).symlink_metadata().is_ok();
    Ok(Status {
        ahead_of_base: base.0,
        behind_base: base.1,
        operation: OPERATIONS.iter().find(|(name, ..)| there(name)).map(|(_, what, _)| *what),
        insertions,
        deletions,
        lines_complete,
        last_change: last_change(target, admin, &changes),
        changes,
    })
}

/// Asks git for the status of everything, or of the named paths.
fn query_git<S: AsRef<OsStr>>(
    git: &Git<'_>,
    more: impl IntoIterator<Item = S>,
) -> Result<Changes, Fault> {
    // Literal: a file name may contain glob characters.
    let fixed = ["--literal-pathspecs", "status", "--porcelain=v2", "-z"];
    let fixed = fixed.into_iter().chain(["--untracked-files=normal"]).map(OsString::from);
    let output = git.run(fixed.chain(more.into_iter().map(|s| s.as_ref().to_owned())))?;
    if !output.status.success() {
        return Err(git::Error::failed("git status", &output).into());
    }
    Ok(Changes::parse(&output.stdout))
}

/// Computes the full list of changes from git's answer for the changed paths; `None` when
/// that is not enough.
fn changes_since(
    env: &Environment,
    admin: &Path,
    git: &Git<'_>,
    since: &Since,
) -> Result<Option<Changes>, Fault> {
    let hash = Hash::named(&env.plan.repository.object_format);
    // A missing index is treated as one that is not understood.
    let index = std::fs::read(admin.join("index")).unwrap_or_default();
    let Some(queried) = since.paths_to_query(&index, hash) else { return Ok(None) };
    let paths = queried.iter().map(|path| OsStr::from_bytes(path));
    let found = query_git(git, [OsStr::new("--")].into_iter().chain(paths))?;
    Ok(since.with(&queried, found))
}

/// Returns the commits since the base, and the commits that the base's branch has gained.
fn distance(env: &Environment, git: &Git<'_>, changes: &Changes) -> (Option<u64>, Option<u64>) {
    let (Some(base), Some(head)) = (&env.base, &changes.head) else {
        return (None, None);
    };
    let common = paths::borrowed(&env.plan.repository.common_dir);
    let named = base.reference.as_deref().and_then(|r| Some((r, refs::tip(common, r)?)));
    if *head == base.commit && named.as_ref().is_some_and(|(_, tip)| *tip == base.commit) {
        return (Some(0), Some(0));
    }
    let other = named.as_ref().map_or(base.commit.as_str(), |(reference, _)| reference);
    let range = format!("{other}...{head}");
    // A missing base is no failure of the status.
    let line = git.line(["rev-list", "--count", "--left-right", &range]).unwrap_or_default();
    let mut counts = line.split('\t').map(|n| n.parse().ok());
    let (behind, ahead) = (counts.next().flatten(), counts.next().flatten());
    (ahead, behind)
}

/// Returns the lines added and removed since HEAD, and whether they cover all changes.
fn lines(git: &Git<'_>, changes: &Changes) -> Result<(u64, u64, bool), Fault> {
    let plain = changes.untracked == 0 && changes.conflicts == 0 && changes.submodules == 0;
    if changes.tracked() == 0 {
        return Ok((0, 0, plain));
    }
    let against = if changes.head.is_none() { "--cached" } else { "HEAD" };
    let args = ["diff", "--numstat", "-z", "--find-renames", "--no-ext-diff", "--no-textconv"];
    let args = ["--literal-pathspecs"].into_iter().chain(args);
    let args = args.chain(["--ignore-submodules=all", against, "--"]).map(OsStr::new);
    let output = match git.output(args.chain(changed_paths(changes))) {
        Err(error) if error.is_refusal() => {
            let fault = Fault::from(error);
            // One unreadable file makes git fail: the status is reported without line counts.
            tracing::debug!(%fault, "cannot count the changed lines");
            return Ok((0, 0, false));
        }
        output => output?,
    };
    let (mut insertions, mut deletions, mut complete) = (0, 0, plain);
    let mut parts = output.split(|b| *b == 0);
    while let Some(line) = parts.next() {
        if line.is_empty() {
            continue;
        }
        if line.ends_with(b"\t") {
            // A rename: the old and the new name follow as separate parts.
            parts.nth(1);
        }
        let mut numbers = line.splitn(3, |b| *b == b'\t');
        let mut next = || std::str::from_utf8(numbers.next()?).ok()?.parse::<u64>().ok();
        match (next(), next()) {
            (Some(more), Some(less)) => {
                insertions += more;
                deletions += less;
            }
            // git prints `-` for a binary file.
            _ => complete = false,
        }
    }
    Ok((insertions, deletions, complete && changes.head.is_some()))
}

/// Returns the paths to which a diff can be limited; empty when there are too many.
fn changed_paths(changes: &Changes) -> Vec<&OsStr> {
    let tracked = || changes.entries.iter().filter(|e| e.code != *b"??");
    if !changes.is_complete() || tracked().count() > DIFF_PATHS_MAX {
        return Vec::new();
    }
    let paths = tracked().flat_map(|e| [Some(&e.path), e.from.as_ref()]).flatten();
    paths.map(|path| OsStr::from_bytes(path)).collect()
}

/// Returns the newest mtime of the changed files, the index, HEAD and its reflog, in seconds.
fn last_change(target: &Path, admin: &Path, changes: &Changes) -> i64 {
    let of = |path: &Path| path.symlink_metadata().map_or(0, |found| found.mtime());
    let git = ["index", "HEAD", "logs/HEAD"].into_iter().map(|name| of(&admin.join(name)));
    let files = changes.entries.iter().map(|e| of(&target.join(paths::from_bytes(&e.path))));
    git.chain(files).max().unwrap_or(0)
}
