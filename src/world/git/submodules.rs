//! Repairs the submodules of a worktree whose administrative directory has changed: their
//! repositories lie inside that directory, and their pointers name it.
//!
//! Changes only pointers into a directory of ours, and only where the index records a submodule.

use std::path::{Path, PathBuf};

use crate::core::EnvironmentId;
use crate::world::fs;
use crate::world::fs::paths;
use crate::world::git::command::Git;
use crate::world::git::error::Error;
use crate::world::git::index::format::Hash;
use crate::world::git::index::read;
use crate::world::process::cancel::Cancel;

/// Path part between a git directory and the repositories of its submodules.
const MODULES: &[u8] = b"/modules/";
/// Bound on the nesting of submodules.
const DEPTH_MAX: usize = 16;

/// Points the submodules of a working tree into the administrative directory `admin`, whose
/// environment is `id`. Idempotent.
///
/// # Errors
/// The error of the system.
pub(in crate::world) fn repoint(
    tree: &Path,
    admin: &Path,
    hash: Option<Hash>,
    id: &EnvironmentId,
) -> Result<(), Error> {
    if !paths::exists(&admin.join("modules")).map_err(fs::Error::about("inspect", admin))? {
        return Ok(());
    }
    let name = paths::to_host(Path::new(admin.file_name().unwrap_or_default())).0;
    let prefix = format!("gk-{id}-").into_bytes();
    below(tree, admin, hash, &|pointer| renamed(pointer, &prefix, &name), 0)
}

fn below(
    tree: &Path,
    git_dir: &Path,
    hash: Option<Hash>,
    rename: &dyn Fn(&[u8]) -> Option<Vec<u8>>,
    depth: usize,
) -> Result<(), Error> {
    let Some(hash) = hash.filter(|_| depth < DEPTH_MAX) else { return Ok(()) };
    for module in gitlinks(tree, git_dir, hash) {
        let pointer = module.join(".git");
        // A submodule that was never fetched has no `.git`.
        let Ok(text) = std::fs::read(&pointer) else { continue };
        let new = rename(&text);
        if let Some(new) = &new {
            let fresh = module.join(".git.gk-new");
            std::fs::write(&fresh, new).map_err(fs::Error::about("write", &fresh))?;
            paths::rename(&fresh, &pointer).map_err(fs::Error::about("write", &pointer))?;
        }
        let text = new.unwrap_or(text);
        if let Some(path) = text.strip_prefix(b"gitdir: ") {
            let repository = module.join(paths::from_bytes(path.trim_ascii_end()));
            below(&module, &repository, Some(hash), rename, depth + 1)?;
        }
    }
    Ok(())
}

/// Reconnects the submodules of a working tree with their repositories below `git_dir`, after one
/// of the two has moved: their pointers are relative. Valid pointers are left alone.
///
/// # Errors
/// The error of the system or of git.
pub(in crate::world) fn reconnect(
    tree: &Path,
    git_dir: &Path,
    hash: Option<Hash>,
) -> Result<(), Error> {
    if !git_dir.join("modules").exists() {
        return Ok(());
    }
    let cancel = Cancel::new().map_err(fs::Error::about("run git in", git_dir))?;
    reconnect_below(tree, git_dir, hash, &cancel, 0)
}

fn reconnect_below(
    tree: &Path,
    git_dir: &Path,
    hash: Option<Hash>,
    cancel: &Cancel,
    depth: usize,
) -> Result<(), Error> {
    let Some(hash) = hash.filter(|_| depth < DEPTH_MAX) else { return Ok(()) };
    for module in gitlinks(tree, git_dir, hash) {
        let pointer = module.join(".git");
        let Ok(text) = std::fs::read(&pointer) else { continue };
        let Some(named) = text.strip_prefix(b"gitdir: ").map(<[u8]>::trim_ascii_end) else {
            continue;
        };
        let Some(at) = named.windows(MODULES.len()).rposition(|part| part == MODULES) else {
            continue;
        };
        let repository =
            git_dir.join("modules").join(paths::from_bytes(&named[at + MODULES.len()..]));
        // Names in a pointer are the user's: only a repository inside our git directory is used.
        let Ok(real) = repository.canonicalize() else { continue };
        if !real.starts_with(git_dir) || !real.join("HEAD").exists() {
            continue;
        }
        if module.join(paths::from_bytes(named)).canonicalize().ok().as_ref() != Some(&real) {
            let mut new = b"gitdir: ".to_vec();
            new.extend(crate::world::git::registration::with_newline(&real));
            let fresh = module.join(".git.gk-new");
            std::fs::write(&fresh, new).map_err(fs::Error::about("write", &fresh))?;
            paths::rename(&fresh, &pointer).map_err(fs::Error::about("write", &pointer))?;
        }
        place_again(&module, &real, cancel)?;
        reconnect_below(&module, &real, Some(hash), cancel, depth + 1)?;
    }
    Ok(())
}

/// Sets `core.worktree` of a submodule's repository to its working tree.
fn place_again(module: &Path, repository: &Path, cancel: &Cancel) -> Result<(), Error> {
    // Run from `/`: no git starts in the repository while it names a missing working tree.
    let git = Git::at(Path::new("/"), None, cancel);
    let config = repository.join("config");
    let on = |args: &[&std::ffi::OsStr]| {
        let mut command = git.command(["config", "--file"]);
        command.arg(&config).args(args);
        git.run_command(command)
    };
    let key = std::ffi::OsStr::new("core.worktree");
    let found = on(&[std::ffi::OsStr::new("--get"), key])?;
    let named = repository.join(paths::from_bytes(found.stdout.trim_ascii_end()));
    let is_there = named.canonicalize().ok().as_deref() == Some(module);
    if !found.status.success() || is_there {
        return Ok(());
    }
    let set = on(&[key, module.as_os_str()])?;
    if set.status.success() { Ok(()) } else { Err(Error::failed("git config", &set)) }
}

/// Returns the paths at which the index records submodules, except those that a link leads to.
fn gitlinks(tree: &Path, git_dir: &Path, hash: Hash) -> Vec<PathBuf> {
    let index = std::fs::read(git_dir.join("index")).unwrap_or_default();
    let mut modules = Vec::new();
    let _tree = read::each(&index, hash, |entry| {
        if entry.mode == 0o160_000 {
            modules.push(tree.join(paths::from_bytes(entry.path)));
        }
    });
    // A link at the path, or on the way to it, leads to something that is not ours.
    modules.retain(|module| module.canonicalize().ok().as_ref() == Some(module));
    modules
}

/// Returns the pointer with `name` in place of another administrative directory of the same
/// environment; `None` if there is nothing to replace.
fn renamed(pointer: &[u8], prefix: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    const FOLDER: &[u8] = b"/worktrees/";
    let at = pointer.windows(FOLDER.len()).rposition(|part| part == FOLDER)? + FOLDER.len();
    let rest = &pointer[at..];
    let end = rest.iter().position(|b| *b == b'/')?;
    let ours = rest.starts_with(prefix) && rest[end..].starts_with(b"/modules/");
    (ours && &rest[..end] != name).then(|| [&pointer[..at], name, &rest[end..]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::git::index::format::{Entry, Stat, Tree, build};

    #[test]
    fn only_own_submodule_pointers_change() {
        let to = |text: &str| {
            let new = renamed(text.as_bytes(), b"gk-demo-", b"gk-demo-2-ab");
            new.map(|new| String::from_utf8(new).expect("text"))
        };
        let old = "gitdir: ../../p/.git/worktrees/gk-demo-1-ab/modules/m\n";
        let new = "gitdir: ../../p/.git/worktrees/gk-demo-2-ab/modules/m\n";
        assert_eq!(to(old).as_deref(), Some(new));
        assert_eq!(to(new), None, "again");
        for other in [
            "gitdir: ../p/.git/worktrees/gk-other-1-ab/modules/m\n",
            "gitdir: ../p/.git/modules/m\n",
            "gitdir: ../p/.git/worktrees/gk-demo-1-ab\n",
            "",
        ] {
            assert_eq!(to(other), None, "{other}");
        }
    }

    #[test]
    fn submodule_link_is_not_followed() {
        let root = tempfile::tempdir().expect("a directory");
        let at = root.path().canonicalize().expect("real");
        let [tree, admin, outside] = ["tree", "admin", "outside"].map(|name| at.join(name));
        for dir in [&tree.join("real"), &admin, &outside] {
            std::fs::create_dir_all(dir).expect("made");
        }
        std::os::unix::fs::symlink(&outside, tree.join("linked")).expect("linked");
        let old = "gitdir: /p/.git/worktrees/gk-demo-1-ab/modules/m\n";
        for dir in [&tree.join("real"), &outside] {
            std::fs::write(dir.join(".git"), old).expect("written");
        }
        let module = |path: &str| Entry {
            path: path.into(),
            mode: 0o160_000,
            oid: vec![1; 20],
            stat: Stat::default(),
        };
        let top = Tree { path: Vec::new(), oid: vec![2; 20] };
        let index = build(Hash::Sha1, &[module("linked"), module("real")], &[top]);
        std::fs::write(admin.join("index"), index.expect("an index")).expect("written");
        let rename = |text: &[u8]| renamed(text, b"gk-demo-", b"gk-demo-2-ab");
        below(&tree, &admin, Some(Hash::Sha1), &rename, 0).expect("repointed");
        let text = |dir: &Path| std::fs::read_to_string(dir.join(".git")).expect("read");
        assert_eq!(text(&outside), old, "not ours");
        assert!(text(&tree.join("real")).contains("gk-demo-2-ab"), "ours");
    }
}
