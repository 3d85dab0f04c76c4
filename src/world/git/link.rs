//! Checks whether the `.git` of a worktree still leads to the recorded git directory.
//!
//! It does not when `.git` was removed, or when another repository was created in its place.

use std::path::{Path, PathBuf};

use crate::world::fs::file_id::FileId;
use crate::world::fs::paths;

/// Bound on the bytes that are read of a `.git` file.
const POINTER_BYTES_MAX: u64 = 64 * 1024;

/// Returns which directory `admin` is if `worktree` leads there; `None` also
/// when `admin` contains no repository.
pub(in crate::world) fn repository(worktree: &Path, admin: &Path) -> Option<FileId> {
    let identity = |path: &Path| path.metadata().ok().map(|found| FileId::of(&found));
    let link = worktree.join(".git");
    let found = link.metadata().ok()?;
    let leads_to = if found.is_dir() { link } else { target(worktree, &link)? };
    let recorded = identity(admin).filter(|_| admin.join("HEAD").symlink_metadata().is_ok())?;
    (identity(&leads_to)? == recorded).then_some(recorded)
}

/// Returns the path that a `.git` file names.
fn target(worktree: &Path, link: &Path) -> Option<PathBuf> {
    use std::io::Read as _;
    let mut text = Vec::new();
    std::fs::File::open(link).ok()?.take(POINTER_BYTES_MAX).read_to_end(&mut text).ok()?;
    let path = text.strip_prefix(b"gitdir: ")?;
    let end = path.iter().rposition(|b| !b"\r\n".contains(b))? + 1;
    // git resolves a relative path against the worktree.
    Some(worktree.join(paths::from_bytes(&path[..end])))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An absolute or a relative pointer is accepted.
    #[test]
    fn git_file_must_lead_to_admin() {
        let root = tempfile::tempdir().expect("a directory");
        let (tree, admin) = (root.path().join("tree"), root.path().join("admin"));
        for dir in [&tree, &admin] {
            std::fs::create_dir(dir).expect("made");
        }
        let write = |path: PathBuf, text: &str| std::fs::write(path, text).expect("written");
        assert_eq!(repository(&tree, &admin), None, "nothing there");
        write(tree.join(".git"), "gitdir: ../admin\n");
        assert_eq!(repository(&tree, &admin), None, "no repository there");
        write(admin.join("HEAD"), "ref: refs/heads/main\n");
        let found = repository(&tree, &admin);
        assert!(found.is_some(), "a relative pointer is followed");
        write(tree.join(".git"), &format!("gitdir: {}", admin.display()));
        assert_eq!(
            repository(&tree, &admin),
            found,
            "an absolute pointer without a newline is followed"
        );
        for odd in ["", "gitdir: ", "gitdir: \n", "gitdir: elsewhere\n", "what?"] {
            write(tree.join(".git"), odd);
            assert_eq!(repository(&tree, &admin), None, "{odd:?}");
        }
        std::fs::remove_file(tree.join(".git")).expect("removed");
        std::fs::create_dir(tree.join(".git")).expect("made");
        assert_eq!(repository(&tree, &admin), None, "another repository");
        assert!(repository(&tree, &tree.join(".git")).is_none(), "a repository without HEAD");
    }
}
