//! The list of included files, `.worktreeinclude`: which ignored paths of a worktree it selects.
//! Reads only.

use std::fs::File;
use std::path::Path;

use crate::core::Fault;
use crate::world::git;
use crate::world::git::command::Git;

/// The file that lists what to include, in gitignore syntax.
pub(crate) const LIST: &str = ".worktreeinclude";

/// Returns whether there is a list that git can read: git would read a pipe for ever,
/// and fail on anything else.
pub(in crate::world) fn has_list(source: &Path) -> bool {
    let list = source.join(LIST);
    list.metadata().is_ok_and(|found| found.is_file()) && File::open(list).is_ok()
}

/// Returns the paths that the list names and git ignores; a directory that is
/// both as a whole is one path.
pub(super) fn wanted(git: &Git<'_>, source: &Path) -> Result<Vec<Vec<u8>>, Fault> {
    let mut named = std::ffi::OsString::from("--exclude-from=");
    named.push(source.join(LIST));
    let named = list(git, &named)?;
    let ignored = list(git, "--exclude-standard".as_ref())?;
    Ok(both(&named, &ignored).into_iter().map(<[u8]>::to_vec).collect())
}

/// Returns the untracked paths that match the patterns, sorted; whole directories end in a slash.
fn list(git: &Git<'_>, patterns: &std::ffi::OsStr) -> Result<Vec<Vec<u8>>, Fault> {
    let mut command = git.command(["ls-files", "--others", "--ignored", "--directory", "-z"]);
    command.arg(patterns);
    let finished = git.run_command(command)?;
    if !finished.status.success() {
        return Err(git::Error::failed("git ls-files", &finished).into());
    }
    let paths = finished.stdout.split(|b| *b == 0).filter(|p| !p.is_empty());
    let mut paths: Vec<Vec<u8>> = paths.map(<[u8]>::to_vec).collect();
    paths.sort();
    Ok(paths)
}

/// Returns what is in both of two sorted lists; a directory stands for everything below it.
fn both<'a>(a: &'a [Vec<u8>], b: &'a [Vec<u8>]) -> Vec<&'a [u8]> {
    let covered = |path: &[u8], by: &[Vec<u8>]| {
        by.binary_search_by(|p| p.as_slice().cmp(path)).is_ok()
            || path.iter().enumerate().any(|(n, byte)| {
                *byte == b'/' && by.binary_search_by(|p| p.as_slice().cmp(&path[..=n])).is_ok()
            })
    };
    let mut found: Vec<&[u8]> = a.iter().map(Vec::as_slice).filter(|p| covered(p, b)).collect();
    found.extend(b.iter().map(Vec::as_slice).filter(|p| covered(p, a)));
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::both;

    #[test]
    fn included_directory_covers_its_content() {
        let list = |text: &str| -> Vec<Vec<u8>> {
            text.split(' ').map(|p| p.as_bytes().to_vec()).collect()
        };
        let named = list(".env cache/ deep/a.env logs/x.log modules/");
        let ignored = list(".env cache/ deep/ logs/y.log modules/one modules/two/");
        let found: Vec<String> = both(&named, &ignored)
            .into_iter()
            .map(|p| String::from_utf8_lossy(p).into_owned())
            .collect();
        assert_eq!(found, [".env", "cache/", "deep/a.env", "modules/one", "modules/two/"]);
    }
}
