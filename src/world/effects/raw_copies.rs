//! Raw copies beside the log: files, byte for byte, that git would not give
//! back or does not accept.
//!
//! The folder of one rescue holds numbered contents (0600) and a list of what they are: path, mode,
//! size and SHA-256 of each. It is written once and synced; without its list it is invalid. The
//! contents never become git objects, because a filter may exist to keep a secret out of git.
//! Copies are never put back through a symlink. Which files are worth a copy is decided elsewhere.

use std::fs::{File, OpenOptions};
use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use sha2::Digest as _;

use crate::core::Fault;
use crate::core::event::RawCopies;
use crate::failpoint::kill::point;
use crate::format;
use crate::world::effects::raw_folders::generations;
use crate::world::effects::raw_list::{ENTRIES_MAX, Entry, Kind, LIST, list_of, write_list};
use crate::world::fs::{paths, remove_tree};
use crate::world::process::cancel::Cancel;

const DEPTH_MAX: usize = 256;
const BUFFER: usize = 1 << 20;

/// A folder of copies that is being filled.
pub(in crate::world) struct Copies<'a> {
    /// Folder of the incarnation, above the one of this rescue.
    root: PathBuf,
    /// Created with the first entry.
    folder: Option<PathBuf>,
    entries: Vec<Entry>,
    bytes: u64,
    cancel: &'a Cancel,
    /// Path in the worktree of the root that entries are copied from.
    prefix: PathBuf,
    /// What could not be copied, and why.
    pub(in crate::world) lacks: Vec<String>,
}

impl<'a> Copies<'a> {
    /// Prepares copies below the folder of one incarnation; creates nothing yet.
    pub(in crate::world) fn new(copies_dir: PathBuf, cancel: &'a Cancel) -> Self {
        let (entries, prefix, lacks) = (Vec::new(), PathBuf::new(), Vec::new());
        Self { root: copies_dir, folder: None, entries, bytes: 0, cancel, prefix, lacks }
    }

    /// Sets the path in the worktree that further roots correspond to.
    pub(in crate::world) fn within(&mut self, prefix: &Path) {
        prefix.clone_into(&mut self.prefix);
    }

    /// Copies one file or symlink. One that cannot be read is added to `lacks`; one
    /// that is gone is ignored.
    ///
    /// # Errors
    /// When the disk is full, or the task is cancelled.
    pub(in crate::world) fn add(&mut self, root: &Path, path: &Path) -> Result<(), Fault> {
        self.cancel.check()?;
        let from = root.join(path);
        let found = match from.symlink_metadata() {
            Err(e) if is_gone(&e) => return Ok(()),
            Err(e) => return self.lack(path, &e),
            Ok(found) => found,
        };
        if self.entries.len() >= ENTRIES_MAX {
            self.lacks.push(format!("{}: more than {ENTRIES_MAX} copies", path.display()));
            return Ok(());
        }
        let kind = found.file_type();
        let copied = if kind.is_symlink() {
            std::fs::read_link(&from).map(|to| (Kind::Link, paths::to_host(&to).0))
        } else if kind.is_file() {
            return self.file(&from, path, found.mode());
        } else {
            // A pipe or a socket has no content; a device is not the user's work.
            return Ok(());
        };
        match copied {
            Ok((kind, content)) => {
                let number = self.entries.len();
                let to = self.folder()?.join(number.to_string());
                let digest = format::hex(&sha2::Sha256::digest(&content));
                create(&to).and_then(|mut file| file.write_all(&content)).map_err(full(&to))?;
                let size = content.len() as u64;
                self.push(Entry { kind, mode: 0, size, digest, path: path.to_owned() });
                Ok(())
            }
            Err(e) => self.lack(path, &e),
        }
    }

    fn file(&mut self, from: &Path, path: &Path, mode: u32) -> Result<(), Fault> {
        let number = self.entries.len();
        let to = self.folder()?.join(number.to_string());
        // The file may be replaced meanwhile: NOFOLLOW refuses a symlink, NONBLOCK
        // does not wait for a pipe.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let mut source = match OpenOptions::new().read(true).custom_flags(flags).open(from) {
            Err(e) if is_gone(&e) => return Ok(()),
            Err(e) => return self.lack(path, &e),
            Ok(source) => source,
        };
        let mut file = create(&to).map_err(full(&to))?;
        let (mut sum, mut size, mut buffer) = (sha2::Sha256::new(), 0, vec![0; BUFFER]);
        loop {
            self.cancel.check()?;
            let count = match source.read(&mut buffer) {
                Ok(count) => count,
                Err(e) => {
                    drop(paths::remove_file_if_any(&to));
                    return self.lack(path, &e);
                }
            };
            if count == 0 {
                break;
            }
            sum.update(&buffer[..count]);
            file.write_all(&buffer[..count]).map_err(full(&to))?;
            size += count as u64;
        }
        let digest = format::hex(&sum.finalize());
        let path = path.to_owned();
        self.push(Entry { kind: Kind::File, mode: mode & 0o7777, size, digest, path });
        Ok(())
    }

    /// Copies everything in a directory, except what `skip` selects (by path relative to it).
    ///
    /// # Errors
    /// As for [`Copies::add`].
    pub(in crate::world) fn tree(
        &mut self,
        root: &Path,
        path: &Path,
        skip: &dyn Fn(&Path) -> bool,
    ) -> Result<(), Fault> {
        let mut todo = vec![(PathBuf::new(), 0)];
        while let Some((below, depth)) = todo.pop() {
            let place = root.join(path).join(&below);
            let entries = match std::fs::read_dir(&place) {
                Err(e) if is_gone(&e) => continue,
                Err(e) => {
                    self.lack(&path.join(&below), &e)?;
                    continue;
                }
                Ok(entries) => entries,
            };
            let mode = place.symlink_metadata().map_or(0o755, |found| found.mode()) & 0o7777;
            self.note(Kind::Folder, &path.join(&below), mode)?;
            let mut entries: Vec<_> = entries.flatten().collect();
            // Equal content gives an equal list, by whose digest two rescues are compared.
            entries.sort_by_key(std::fs::DirEntry::file_name);
            for entry in entries {
                let inside = below.join(entry.file_name());
                if skip(&inside) {
                    continue;
                }
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    self.add(root, &path.join(&inside))?;
                } else if depth < DEPTH_MAX {
                    todo.push((inside, depth + 1));
                } else {
                    self.lacks.push(format!("{}: nested too deeply", inside.display()));
                }
            }
        }
        Ok(())
    }

    /// Takes over what an earlier rescue copied of files that no longer exist.
    ///
    /// # Errors
    /// As for [`Copies::add`].
    pub(in crate::world) fn carry(
        &mut self,
        earlier: &RawCopies,
        target: &Path,
    ) -> Result<(), Fault> {
        let from = paths::from_host(&earlier.folder);
        let known: std::collections::BTreeSet<PathBuf> =
            self.entries.iter().map(|entry| entry.path.clone()).collect();
        // An unreadable list holds nothing that could be taken over.
        for (number, entry) in list_of(earlier).unwrap_or_default().into_iter().enumerate() {
            self.cancel.check()?;
            let content = matches!(entry.kind, Kind::File | Kind::Link);
            let gone = || match target.join(&entry.path).symlink_metadata() {
                Err(error) => is_gone(&error),
                Ok(_) => false,
            };
            if !content || known.contains(&entry.path) || !gone() {
                continue;
            }
            let to = self.folder()?.join(self.entries.len().to_string());
            let from = from.join(number.to_string());
            let linked = std::fs::hard_link(&from, &to);
            linked.or_else(|_| std::fs::copy(&from, &to).map(drop)).map_err(full(&to))?;
            self.bytes += entry.size;
            self.entries.push(entry);
        }
        Ok(())
    }

    /// Copies a directory from elsewhere, to be put back at `at` in the worktree.
    ///
    /// # Errors
    /// As for [`Copies::add`].
    pub(in crate::world) fn tree_as(
        &mut self,
        from: &Path,
        at: &Path,
        skip: &dyn Fn(&Path) -> bool,
    ) -> Result<(), Fault> {
        let before = std::mem::replace(&mut self.prefix, at.to_owned());
        let copied = self.tree(from, Path::new(""), skip);
        self.prefix = before;
        copied
    }

    /// Records the mode of a file whose content git holds.
    ///
    /// # Errors
    /// As for [`Copies::add`].
    pub(in crate::world) fn mode(&mut self, path: &Path, mode: u32) -> Result<(), Fault> {
        self.note(Kind::Mode, path, mode & 0o7777)
    }

    fn note(&mut self, kind: Kind, path: &Path, mode: u32) -> Result<(), Fault> {
        let _made = self.folder()?;
        let (digest, path) = ("-".to_owned(), path.to_owned());
        self.push(Entry { kind, mode, size: 0, digest, path });
        Ok(())
    }

    fn push(&mut self, mut entry: Entry) {
        entry.path = self.prefix.join(&entry.path);
        self.bytes += entry.size;
        self.entries.push(entry);
    }

    /// Records what could not be copied, unless the failure came from a cancellation.
    fn lack(&mut self, path: &Path, error: &io::Error) -> Result<(), Fault> {
        self.cancel.check()?;
        self.lacks.push(format!("{}: {error}", self.prefix.join(path).display()));
        Ok(())
    }

    /// Returns the folder, created when first needed: a new one beside those of earlier
    /// rescues of this incarnation.
    fn folder(&mut self) -> Result<PathBuf, Fault> {
        if let Some(folder) = &self.folder {
            return Ok(folder.clone());
        }
        let made =
            |path: &Path| std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        made(&self.root).map_err(full(&self.root))?;
        let mut number = 1;
        for (name, path) in generations(&self.root) {
            if path.join(LIST).exists() {
                number = number.max(name + 1);
            } else {
                // Its rescue was killed before the list was written, so no record names it.
                remove_tree::tree(&path, &mut |_| self.cancel.check().map_err(Fault::from))?;
            }
        }
        let folder = self.root.join(number.to_string());
        made(&folder).map_err(full(&folder))?;
        self.folder = Some(folder.clone());
        Ok(folder)
    }

    /// Writes the list and makes everything durable; none if there are no entries.
    ///
    /// # Errors
    /// When that fails.
    pub(in crate::world) fn finish(self) -> Result<(Option<RawCopies>, Vec<String>), Fault> {
        let Some(folder) = self.folder else { return Ok((None, self.lacks)) };
        if self.entries.is_empty() {
            drop(remove_tree::tree(&folder, &mut |_| self.cancel.check().map_err(Fault::from)));
            return Ok((None, self.lacks));
        }
        let text = write_list(&self.entries);
        let digest = format::hex(&sha2::Sha256::digest(&text));
        let fresh = folder.join("list.new");
        let open = File::open(&folder).map_err(paths::failed("open", &folder))?;
        // All contents must be on disk before the list claims that they exist.
        groundskeeper_system::linux_calls::sync_file_system(&open)
            .map_err(paths::failed("sync", &folder))?;
        point("raw.copied");
        let write = || {
            let mut file = create(&fresh)?;
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::rename(&fresh, folder.join(LIST))?;
            open.sync_all()
        };
        write().map_err(full(&fresh))?;
        for parent in folder.ancestors().skip(1).take(2) {
            groundskeeper_system::portable::sync_dir(parent)
                .map_err(paths::failed("sync", parent))?;
        }
        point("raw.listed");
        let (files, bytes) = (self.entries.len() as u64, self.bytes);
        Ok((Some(RawCopies { folder: paths::to_host(&folder), files, bytes, digest }), self.lacks))
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Maps a write error to a fault; a full disk keeps its own code.
fn full(path: &Path) -> impl Fn(io::Error) -> Fault + '_ {
    paths::failed("write", path)
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}
