//! Writes the files of a commit into a new, empty worktree, faster than git where that is safe.
//!
//! git inflates and writes one file after the other; here several threads write. Contents come from
//! the worktree that the request named, where a file hashes to the wanted object, and otherwise
//! from one `git cat-file` per thread. The index is written once at the end from the stat data at
//! hand. Its entries are as young as itself, so git would re-read the files in every status ("racy
//! git") until `racy::settle` proves them unchanged.
//!
//! It applies only where contents are written as they are stored. Anything else (filters, line
//! endings, sparse or partial checkouts, odd trees) is left to git, and the reason is recorded.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, openat};

use crate::core::Fault;
use crate::world::fs;
use crate::world::fs::{paths, removal};
use crate::world::git::attributes::{self, Config};
use crate::world::git::blobs;
use crate::world::git::checkout_error::CheckoutError;
use crate::world::git::command::{Git, LONG};
use crate::world::git::error::Error;
use crate::world::git::index::format::{self, Entry, Hash, Stat};
use crate::world::git::refs;
use crate::world::git::template::Template;
use crate::world::git::tree_listing::{Listing, unhex};

/// Below this number of files git's own checkout is as fast, because it needs fewer processes.
const FILES_MIN: u32 = 400;
/// Bound on the writer threads; each has its own `git cat-file`.
const THREADS_MAX: usize = 4;

/// Parameters of one checkout: commit, target and settings.
pub(in crate::world) struct Checkout<'a> {
    pub(in crate::world) git: Git<'a>,
    pub(in crate::world) admin_dir: &'a Path,
    pub(in crate::world) target: &'a Path,
    pub(in crate::world) common_dir: &'a Path,
    /// Worktree that may hold the same files, if there is one.
    pub(in crate::world) source: Option<&'a Path>,
    pub(in crate::world) commit: &'a str,
    pub(in crate::world) hash: Hash,
    /// Tree from which git reads attributes instead of the files (`GIT_ATTR_SOURCE`).
    pub(in crate::world) attributes: Option<String>,
}

/// Result of a checkout: by which method the files were written, and how many.
pub(in crate::world) struct Done {
    pub(in crate::world) by_us: bool,
    /// Why git wrote the files, if it did.
    pub(in crate::world) reason: Option<String>,
    pub(in crate::world) files: u64,
}

/// The directory to which files are written at the moment.
struct OpenDirectory {
    path: PathBuf,
    handle: File,
}

impl Checkout<'_> {
    /// Writes files and index.
    pub(in crate::world) fn run(&self) -> Result<Done, Error> {
        let reason = match self.parallel() {
            Ok(files) => {
                return Ok(Done { by_us: true, reason: None, files });
            }
            Err(CheckoutError::NeedsGit(reason)) => reason,
            Err(CheckoutError::Failed(error)) if error.is_refusal() => {
                Fault::from(error).to_string()
            }
            Err(CheckoutError::Failed(error)) => return Err(error),
        };
        // Files that our own attempt has written block nothing: git overwrites them.
        self.by_git()?;
        Ok(self.done_by_git(reason))
    }

    pub(in crate::world) fn done_by_git(&self, reason: String) -> Done {
        let files = entry_count(&self.admin_dir.join("index")).unwrap_or(0);
        Done { by_us: false, reason: Some(reason), files: files.into() }
    }

    /// Reports whether the main worktree has so few files that git's own checkout is as fast.
    pub(in crate::world) fn is_small(&self) -> bool {
        entry_count(&self.common_dir.join("index")).is_some_and(|n| n < FILES_MIN)
    }

    /// Checks out with git, which is correct for every repository.
    fn by_git(&self) -> Result<(), Error> {
        // A lock of an interrupted attempt: no other process knows this worktree yet.
        removal::remove_ours_file(&self.admin_dir.join("index.lock"))?;
        let reset = ["-c", "checkout.workers=0", "read-tree", "--reset", "-u"];
        let args = reset.into_iter().chain(["--no-recurse-submodules", self.commit]);
        let git = self.git.clone().within(LONG);
        let mut command = git.command(args);
        if let Some(tree) = &self.attributes {
            command.env("GIT_ATTR_SOURCE", tree);
        }
        git.line_of("git read-tree", command).map(drop)
    }

    fn parallel(&self) -> Result<u64, CheckoutError> {
        let few = || CheckoutError::NeedsGit("few files".to_owned());
        if self.is_small() {
            return Err(few());
        }
        if self.attributes.is_some() {
            return Err(CheckoutError::NeedsGit("attributes from a tree".to_owned()));
        }
        if refs::any_below(self.common_dir, "refs/replace/") {
            return Err(CheckoutError::NeedsGit("replaced objects".to_owned()));
        }
        let (config, top, listed) = self.ask_git();
        let config = config?;
        if let Some(obstacle) = config.checkout_obstacle() {
            return Err(CheckoutError::NeedsGit(obstacle));
        }
        for file in config.attribute_files(self.common_dir) {
            let text = std::fs::read(file).unwrap_or_default();
            if let Some(why) = attributes::content_changing(&text) {
                return Err(CheckoutError::NeedsGit(why));
            }
        }
        let top = unhex(top?.as_bytes()).ok_or_else(few)?;
        let tree = Listing::parse(&listed?, top)?;
        if (tree.entries.len() as u64) < u64::from(FILES_MIN) {
            return Err(few());
        }
        self.check_tree_attributes(&tree)?;
        self.write(tree)
    }

    /// Asks git for settings, top tree and all entries: three independent queries in parallel.
    #[expect(clippy::type_complexity, reason = "three answers, taken apart at once")]
    fn ask_git(&self) -> (Result<Config, Error>, Result<String, Error>, Result<Vec<u8>, Error>) {
        let spec = format!("{}^{{tree}}", self.commit);
        let panicked = |_| Err(Error::Defect("a git query panicked"));
        std::thread::scope(|scope| {
            let config = scope.spawn(|| {
                self.git.output(["config", "--list", "-z"]).map(|out| Config::parse(&out))
            });
            let top = scope.spawn(|| self.git.line(["rev-parse", "--verify", &spec]));
            let args = ["ls-tree", "-r", "-t", "-z", "--full-tree", self.commit];
            let listed = self.git.output(args);
            let config = config.join().unwrap_or(Err(Error::Defect("a git query panicked")));
            (config, top.join().unwrap_or_else(panicked), listed)
        })
    }

    fn check_tree_attributes(&self, tree: &Listing) -> Result<(), CheckoutError> {
        let is_attributes =
            |e: &&Entry| e.path == b".gitattributes" || e.path.ends_with(b"/.gitattributes");
        let files: Vec<&Entry> = tree.entries.iter().filter(is_attributes).collect();
        let mut found = None;
        blobs::each_blob(&self.git, &files, &mut |_, blob| {
            found = found.take().or_else(|| attributes::content_changing(blob));
            Ok(())
        })?;
        found.map_or(Ok(()), |why| Err(CheckoutError::NeedsGit(why)))
    }

    fn write(&self, tree: Listing) -> Result<u64, CheckoutError> {
        let mut entries = tree.entries;
        let count = entries.len() as u64;
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let share = entries.len().div_ceil(threads.min(THREADS_MAX));
        std::thread::scope(|scope| {
            let workers: Vec<_> = entries
                .chunks_mut(share)
                .map(|chunk| scope.spawn(|| self.write_files(chunk)))
                .collect();
            workers.into_iter().try_for_each(|worker| {
                if let Ok(done) = worker.join() {
                    done
                } else {
                    Err(Error::Defect("a checkout thread panicked").into())
                }
            })
        })?;
        // Links come last: while files are written, no path can lead through a link.
        self.write_links(&mut entries)?;
        let bytes = format::build(self.hash, &entries, &tree.trees)
            .ok_or_else(|| CheckoutError::NeedsGit("an unexpected tree".into()))?;
        self.install_index(&bytes)?;
        Ok(count)
    }

    /// Installs the index as git itself does: exclusive lock file, then rename.
    fn install_index(&self, bytes: &[u8]) -> Result<(), Error> {
        let lock = self.admin_dir.join("index.lock");
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&lock)
            .map_err(fs::Error::about("create", &lock))?;
        file.write_all(bytes).map_err(fs::Error::about("write", &lock))?;
        let index = self.admin_dir.join("index");
        Ok(paths::rename(&lock, &index).map_err(fs::Error::about("install", &index))?)
    }

    fn write_files(&self, entries: &mut [Entry]) -> Result<(), CheckoutError> {
        let mut place = None;
        for entry in entries.iter().filter(|e| e.mode == 0o160_000) {
            let path = self.target.join(paths::from_bytes(&entry.path));
            std::fs::create_dir_all(&path).map_err(fs::Error::about("create", &path))?;
        }
        let is_file = |e: &Entry| e.mode & 0o170_000 == 0o100_000;
        let (mut rest, mut template) = (Vec::new(), Template::new(self.source, self.hash));
        for (n, entry) in entries.iter_mut().enumerate().filter(|(_, e)| is_file(e)) {
            if n % 64 == 0 {
                self.git.cancel().check()?;
            }
            match template.read(entry) {
                Some(bytes) => entry.stat = self.write_file(&mut place, entry, bytes)?,
                None => rest.push(n),
            }
        }
        let wanted: Vec<Entry> = rest.iter().map(|n| entries[*n].clone()).collect();
        let wanted: Vec<&Entry> = wanted.iter().collect();
        blobs::each_blob(&self.git, &wanted, &mut |n, blob| {
            let entry = &mut entries[rest[n]];
            entry.stat = self.write_file(&mut place, entry, blob)?;
            Ok(())
        })
    }

    fn write_file(
        &self,
        place: &mut Option<OpenDirectory>,
        entry: &Entry,
        blob: &[u8],
    ) -> Result<Stat, Error> {
        let path = paths::from_bytes(&entry.path);
        let (parent, name) = (path.parent().unwrap_or(path), path.file_name().unwrap_or_default());
        if place.as_ref().is_none_or(|p| p.path != parent) {
            *place = Some(self.enter(parent)?);
        }
        let Some(place) = place else {
            return Err(Error::Defect("there is no directory to write to"));
        };
        let mode = if entry.mode & 0o111 == 0 { 0o666 } else { 0o777 };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let write = || -> io::Result<Stat> {
            let mut file = File::from(openat(&place.handle, name, flags, mode.into())?);
            file.write_all(blob)?;
            Ok(Stat::of(&file.metadata()?))
        };
        Ok(write().map_err(fs::Error::about("write", &self.target.join(path)))?)
    }

    /// Creates a directory and opens it. Files are created relative to the descriptor, which saves
    /// the kernel from resolving a long path for each.
    fn enter(&self, parent: &Path) -> Result<OpenDirectory, Error> {
        let path = self.target.join(parent);
        std::fs::create_dir_all(&path).map_err(fs::Error::about("create", &path))?;
        let handle = File::open(&path).map_err(fs::Error::about("open", &path))?;
        Ok(OpenDirectory { path: parent.to_owned(), handle })
    }

    fn write_links(&self, entries: &mut [Entry]) -> Result<(), CheckoutError> {
        let links: Vec<usize> =
            (0..entries.len()).filter(|n| entries[*n].mode == 0o120_000).collect();
        let list: Vec<Entry> = links.iter().map(|n| entries[*n].clone()).collect();
        let list: Vec<&Entry> = list.iter().collect();
        blobs::each_blob(&self.git, &list, &mut |n, target| {
            let entry = &mut entries[links[n]];
            let path = self.target.join(paths::from_bytes(&entry.path));
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent).map_err(fs::Error::about("create", parent))?;
            }
            let made = std::os::unix::fs::symlink(paths::from_bytes(target), &path)
                .and_then(|()| path.symlink_metadata());
            entry.stat = Stat::of(&made.map_err(fs::Error::about("write", &path))?);
            Ok(())
        })
    }
}

/// Returns the number of entries in the header of an index file; `None` when there is no index.
pub(in crate::world) fn entry_count(index: &Path) -> Option<u32> {
    let mut header = [0; 12];
    File::open(index).ok()?.read_exact(&mut header).ok()?;
    (header[..4] == *b"DIRC")
        .then(|| u32::from_be_bytes([header[8], header[9], header[10], header[11]]))
}
