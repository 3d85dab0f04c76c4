//! The changes of a worktree as a patch of bounded size.

use std::process::Stdio;

use crate::core::{Code, Environment, Fault};
use crate::world::git::command::Git;
use crate::world::process;
use crate::world::process::cancel::Cancel;
use crate::world::process::subprocess::{Bounds, Running, Stream};
use crate::world::status::query::{LIMIT, place};

const ERROR_BYTES_MAX: usize = 16 * 1024;

/// Commit with which a worktree is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Against {
    /// The commit that the environment was made from: shows all work in it.
    Base,
    /// HEAD: shows what is not committed.
    Head,
}

/// A patch, possibly truncated.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Patch {
    /// Commit that the patch applies to.
    pub from: String,
    /// Bytes of the patch, in whole lines.
    pub bytes: Vec<u8>,
    /// Whether the patch was cut at the bound.
    pub truncated: bool,
}

/// Returns the changes of tracked files as a patch of at most `bytes_max` bytes.
///
/// # Errors
/// When the environment cannot be inspected, or git fails.
pub(in crate::world) fn patch(
    env: &Environment,
    against: Against,
    bytes_max: usize,
    cancel: &Cancel,
) -> Result<Patch, Fault> {
    let (target, admin) = place(env)?;
    let git = Git::exact(admin, Some(target), None, cancel).within(LIMIT);
    let base = env.base.as_ref().filter(|_| against == Against::Base);
    let from = base.map_or_else(|| "HEAD".to_owned(), |base| base.commit.clone());
    let from = git.line(["rev-parse", "--verify", "--quiet", &format!("{from}^{{commit}}")]);
    let from = from.map_err(|cause| {
        let hint = "create a commit first, or run `git diff` with another commit";
        Fault::new(Code::NoCommits, "there is no commit to compare with", hint)
            .caused_by(&Fault::from(cause))
    })?;
    // The repository's settings may name diff programs, which must not run here.
    let args = ["diff", "--patch", "--no-color", "--no-ext-diff", "--no-textconv"];
    let mut command = git.command(args.into_iter().chain(["--find-renames", &from, "--"]));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running::spawn(command, "git diff")?;
    let mut patch = Patch { from: from.clone(), ..Patch::default() };
    let mut errors = Vec::new();
    let bounds = Bounds {
        time: LIMIT,
        output_bytes: usize::MAX,
        cancel,
        cancel_grace: std::time::Duration::ZERO,
    };
    let ended = running.wait(bounds, &mut |stream, part| {
        if stream == Stream::Err {
            let room = ERROR_BYTES_MAX.saturating_sub(errors.len());
            errors.extend_from_slice(&part[..part.len().min(room)]);
            return Ok(());
        }
        let room = bytes_max - patch.bytes.len();
        patch.bytes.extend_from_slice(&part[..part.len().min(room)]);
        patch.truncated = part.len() > room;
        // The bound is reached: an error makes `wait` end git early.
        if patch.truncated { Err(process::Error::Cancelled) } else { Ok(()) }
    });
    match ended {
        Err(_) if patch.truncated => {
            let end = patch.bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            patch.bytes.truncate(end);
            Ok(patch)
        }
        Err(error) => Err(error.into()),
        Ok(status) if !status.success() => {
            let git_error = String::from_utf8_lossy(&errors).into_owned();
            let message = format!("`git diff` failed ({status})");
            Err(Fault::new(Code::GitFailed, message, "fix the error that git reports")
                .because(git_error))
        }
        Ok(_) => Ok(patch),
    }
}
