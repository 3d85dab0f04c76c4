//! The private files of a migration, opened again by name. In a directory of another user that name
//! may lead elsewhere by then, and a process of root must not follow it.

use std::path::Path;

use rusqlite::Connection;

use crate::context::Task;
use crate::{access, sqlite};
use groundskeeper_core::Fault;

impl Task<'_> {
    /// Creates an empty private file and remembers which one it is.
    ///
    /// # Errors
    /// As [`sqlite::create_private`].
    pub(super) fn create_private(&self, path: &Path) -> Result<(), Fault> {
        sqlite::create_private(path)?;
        let made = access::identity(path)?;
        self.runner.with_held(self.id(), |held| {
            held.made.retain(|(known, _)| known != path);
            held.made.extend(made.map(|made| (path.to_owned(), made)));
        });
        Ok(())
    }

    /// Opens a private file, which must be the one that this process made, if it made one.
    ///
    /// # Errors
    /// `database_in_use` when another file is there; as [`sqlite::open_private`].
    pub(super) fn open_private(&self, path: &Path) -> Result<Connection, Fault> {
        self.check_made(path)?;
        let opened = sqlite::open_private(path)?;
        // Again: SQLite opens a name, and it may have been replaced since.
        self.check_made(path)?;
        Ok(opened)
    }

    fn check_made(&self, path: &Path) -> Result<(), Fault> {
        let now = access::identity(path)?;
        let made = self.runner.with_held(self.id(), |held| {
            held.made.iter().find(|(known, _)| known == path).map(|(_, made)| *made)
        });
        if made.is_none() || made == now { Ok(()) } else { Err(access::replaced(path)) }
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use groundskeeper_core::Code;

    #[test]
    fn link_or_second_name_is_not_opened() {
        let dir = tempfile::tempdir().expect("a folder");
        let [file, other, link] = ["file", "other", "link"].map(|name| dir.path().join(name));
        sqlite::create_private(&file).expect("created");
        drop(sqlite::open_private(&file).expect("it is the one file"));
        std::os::unix::fs::symlink(&file, &link).expect("linked");
        let fault = sqlite::open_private(&link).expect_err("a link");
        assert_eq!(fault.code, Code::DatabaseInUse, "{fault}");
        std::fs::hard_link(&file, &other).expect("linked");
        let fault = sqlite::open_private(&file).expect_err("a second name");
        assert!(fault.message.contains("was replaced"), "{fault}");
    }

    /// The directories on the way may be links: they are the user's.
    #[test]
    fn directory_may_be_a_link() {
        let dir = tempfile::tempdir().expect("a folder");
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        std::fs::create_dir(&real).expect("made");
        std::os::unix::fs::symlink(&real, &link).expect("linked");
        drop(sqlite::open_private(&link.join("file")).expect("opened"));
        assert!(real.join("file").exists());
    }
}
