//! What is not ours is as it was: every file, link and mode, compared with what was there at first.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::Findings;
use crate::ground::{ADOPTED, FOREIGN, Ground};

/// Content and mode of everything, by path.
pub(crate) type Picture = BTreeMap<PathBuf, String>;

/// All that must stay as it is.
pub(crate) fn picture(ground: &Ground) -> Picture {
    let mut all = Picture::new();
    let mut places = vec![ground.canary(), ground.repo()];
    places.extend(ADOPTED.map(|name| ground.adopted(name)));
    places.push(ground.data().join("worktrees").join(FOREIGN));
    for place in places {
        take(&place, &mut all);
    }
    all
}

fn take(path: &Path, all: &mut Picture) {
    let Ok(meta) = path.symlink_metadata() else { return };
    let mode = meta.permissions().mode();
    let text = if meta.is_dir() {
        String::new()
    } else if meta.is_symlink() {
        std::fs::read_link(path).map(|to| to.display().to_string()).unwrap_or_default()
    } else {
        String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
    };
    all.insert(path.to_owned(), format!("{mode:o} {text}"));
    if meta.is_dir() {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        // The repository itself is ours to work in; its registrations are looked at elsewhere.
        for entry in entries.filter(|e| e.file_name() != ".git" || e.path().is_file()) {
            take(&entry.path(), all);
        }
    }
}

pub(crate) fn check(ground: &Ground, before: &Picture, findings: &mut Findings<'_>) {
    let now = picture(ground);
    for (path, was) in before {
        match now.get(path) {
            None => findings.add(format!("{} is gone, and was not ours", path.display())),
            Some(is) if is != was => {
                findings.add(format!("{} was not ours and is {is:?} now", path.display()));
            }
            Some(_) => {}
        }
    }
    for path in now.keys().filter(|path| !before.contains_key(*path)) {
        findings.add(format!("{} was put where nothing of ours belongs", path.display()));
    }
}
