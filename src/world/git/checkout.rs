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

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Stdio};
use std::time::Duration;

use rustix::fs::{OFlags, openat};

use crate::core::{Code, Fault};
use crate::world::fs::{paths, removal};
use crate::world::git::attributes::{self, Config};
use crate::world::git::command::{Git, LONG};
use crate::world::git::index::format::{self, Entry, Hash, Stat, Tree};
use crate::world::git::refs;
use crate::world::process::subprocess::{Patient, Running};

/// Below this number of files git's own checkout is as fast, because it needs fewer processes.
const FILES_MIN: u32 = 400;
/// Bound on the writer threads; each has its own `git cat-file`.
const THREADS_MAX: usize = 4;
/// Largest file that is held in memory; a larger one is a reason to use git.
const BLOB_BYTES_MAX: u64 = 64 << 20;
/// Longest wait for a byte of `git cat-file`.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Parameters of one checkout: commit, target and settings.
pub(in crate::world) struct Checkout<'a> {
    pub(in crate::world) git: Git<'a>,
    pub(in crate::world) admin_dir: &'a Path,
    pub(in crate::world) target: &'a Path,
    pub(in crate::world) common_dir: &'a Path,
    /// Worktree that may hold the same files; empty when there is none.
    pub(in crate::world) source: &'a Path,
    pub(in crate::world) commit: &'a str,
    pub(in crate::world) hash: Hash,
    /// Tree from which git reads attributes instead of the files (`GIT_ATTR_SOURCE`).
    pub(in crate::world) attributes: Option<String>,
}

/// Result of a checkout: by which method the files were written, and how many.
pub(in crate::world) struct Done {
    pub(in crate::world) by_us: bool,
    pub(in crate::world) reason: String,
    pub(in crate::world) files: u64,
}

/// The directory to which files are written at the moment.
struct OpenDirectory {
    path: PathBuf,
    handle: File,
}

enum CheckoutError {
    /// This checkout must be done by git. Nothing was written yet, or git overwrites it.
    NeedsGit(String),
    Fault(Fault),
}

impl From<Fault> for CheckoutError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Checkout<'_> {
    /// Writes files and index.
    pub(in crate::world) fn run(&self) -> Result<Done, Fault> {
        let reason = match self.parallel() {
            Ok(files) => {
                return Ok(Done { by_us: true, reason: String::new(), files });
            }
            Err(CheckoutError::NeedsGit(reason)) => reason,
            Err(CheckoutError::Fault(fault)) if fault.code == Code::GitFailed => fault.to_string(),
            Err(CheckoutError::Fault(fault)) => return Err(fault),
        };
        // Files that our own attempt has written block nothing: git overwrites them.
        self.by_git()?;
        Ok(self.done_by_git(reason))
    }

    pub(in crate::world) fn done_by_git(&self, reason: String) -> Done {
        let files = entry_count(&self.admin_dir.join("index")).unwrap_or(0);
        Done { by_us: false, reason, files: files.into() }
    }

    /// Reports whether the main worktree has so few files that git's own checkout is as fast.
    pub(in crate::world) fn is_small(&self) -> bool {
        entry_count(&self.common_dir.join("index")).is_some_and(|n| n < FILES_MIN)
    }

    /// Checks out with git, which is correct for every repository.
    fn by_git(&self) -> Result<(), Fault> {
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
    fn ask_git(&self) -> (Result<Config, Fault>, Result<String, Fault>, Result<Vec<u8>, Fault>) {
        let spec = format!("{}^{{tree}}", self.commit);
        let hint = "report this defect with the daemon log";
        let panicked = |_| Err(Fault::new(Code::Defect, "a git query panicked", hint));
        std::thread::scope(|scope| {
            let config = scope.spawn(|| {
                self.git.output(["config", "--list", "-z"]).map(|out| Config::parse(&out))
            });
            let top = scope.spawn(|| self.git.line(["rev-parse", "--verify", &spec]));
            let args = ["ls-tree", "-r", "-t", "-z", "--full-tree", self.commit];
            let listed = self.git.output(args);
            let config = config
                .join()
                .unwrap_or_else(|_| Err(Fault::new(Code::Defect, "a git query panicked", hint)));
            (config, top.join().unwrap_or_else(panicked), listed)
        })
    }

    fn check_tree_attributes(&self, tree: &Listing) -> Result<(), CheckoutError> {
        let is_attributes =
            |e: &&Entry| e.path == b".gitattributes" || e.path.ends_with(b"/.gitattributes");
        let files: Vec<&Entry> = tree.entries.iter().filter(is_attributes).collect();
        let mut found = None;
        self.each_blob(&files, &mut |_, blob| {
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
                    let hint = "report this defect with the daemon log";
                    let fault = Fault::new(Code::Defect, "a checkout thread panicked", hint);
                    Err(CheckoutError::Fault(fault))
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
    fn install_index(&self, bytes: &[u8]) -> Result<(), Fault> {
        let lock = self.admin_dir.join("index.lock");
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&lock)
            .map_err(paths::failed("create", &lock))?;
        file.write_all(bytes).map_err(paths::failed("write", &lock))?;
        let index = self.admin_dir.join("index");
        paths::rename(&lock, &index).map_err(paths::failed("install", &index))
    }

    fn write_files(&self, entries: &mut [Entry]) -> Result<(), CheckoutError> {
        let mut place = None;
        for entry in entries.iter().filter(|e| e.mode == 0o160_000) {
            let path = self.target.join(paths::from_bytes(&entry.path));
            std::fs::create_dir_all(&path).map_err(paths::failed("create", &path))?;
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
        self.each_blob(&wanted, &mut |n, blob| {
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
    ) -> Result<Stat, Fault> {
        let path = paths::from_bytes(&entry.path);
        let (parent, name) = (path.parent().unwrap_or(path), path.file_name().unwrap_or_default());
        if place.as_ref().is_none_or(|p| p.path != parent) {
            *place = Some(self.enter(parent)?);
        }
        let Some(place) = place else {
            let message = "there is no directory to write to";
            return Err(Fault::new(
                Code::Defect,
                message,
                "report this defect with the daemon log",
            ));
        };
        let mode = if entry.mode & 0o111 == 0 { 0o666 } else { 0o777 };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let write = || -> io::Result<Stat> {
            let mut file = File::from(openat(&place.handle, name, flags, mode.into())?);
            file.write_all(blob)?;
            Ok(Stat::of(&file.metadata()?))
        };
        write().map_err(|e| paths::fault("write", &self.target.join(path), &e))
    }

    /// Creates a directory and opens it. Files are created relative to the descriptor, which saves
    /// the kernel from resolving a long path for each.
    fn enter(&self, parent: &Path) -> Result<OpenDirectory, Fault> {
        let path = self.target.join(parent);
        std::fs::create_dir_all(&path).map_err(paths::failed("create", &path))?;
        let handle = File::open(&path).map_err(paths::failed("open", &path))?;
        Ok(OpenDirectory { path: parent.to_owned(), handle })
    }

    fn write_links(&self, entries: &mut [Entry]) -> Result<(), CheckoutError> {
        let links: Vec<usize> =
            (0..entries.len()).filter(|n| entries[*n].mode == 0o120_000).collect();
        let list: Vec<Entry> = links.iter().map(|n| entries[*n].clone()).collect();
        let list: Vec<&Entry> = list.iter().collect();
        self.each_blob(&list, &mut |n, target| {
            let entry = &mut entries[links[n]];
            let path = self.target.join(paths::from_bytes(&entry.path));
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent).map_err(paths::failed("create", parent))?;
            }
            let made = std::os::unix::fs::symlink(paths::from_bytes(target), &path)
                .and_then(|()| path.symlink_metadata());
            entry.stat = Stat::of(&made.map_err(paths::failed("write", &path))?);
            Ok(())
        })
    }

    /// Passes the contents of blobs to `each`, in order, from one `git cat-file`.
    fn each_blob(
        &self,
        entries: &[&Entry],
        each: &mut dyn FnMut(usize, &[u8]) -> Result<(), Fault>,
    ) -> Result<(), CheckoutError> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut command = self.git.command(["cat-file", "--batch", "--buffer"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        // Its drop ends the process on every path out of this function.
        let mut running = Running::spawn(command, "git cat-file")?;
        let (stdin, stdout) = running.take_pipes();
        let (Some(stdin), Some(stdout)) = (stdin, stdout) else {
            let hint = "report this defect with the daemon log";
            return Err(Fault::new(Code::Defect, "git cat-file has no pipes", hint).into());
        };
        std::thread::scope(|scope| {
            // A separate thread writes the requests: one thread would deadlock on full pipes.
            let feeder = scope.spawn(|| feed(stdin, entries));
            let patient = Patient::new(stdout, self.git.cancel(), SILENCE_MAX);
            let mut reader = BufReader::with_capacity(256 * 1024, patient);
            let mut blob = Vec::new();
            for (n, entry) in entries.iter().enumerate() {
                let read = read_blob(&mut reader, entry, &mut blob);
                self.git.cancel().check()?;
                read?;
                each(n, &blob)?;
            }
            // A failed write shows as a failed read above; the thread only has to end.
            drop(feeder.join());
            Ok(())
        })
    }
}

/// Files of another worktree, used where their bytes are exactly the wanted ones.
///
/// Reading and hashing a file costs half of what git needs to inflate the object. The hash proves
/// that it is the object, so nothing needs to be known about that worktree.
struct Template<'a> {
    source: &'a Path,
    hash: Hash,
    bytes: Vec<u8>,
    missed: usize,
}

/// Excess of misses over hits after which the template is no longer read.
const MISSES_MAX: usize = 64;

impl<'a> Template<'a> {
    fn new(source: &'a Path, hash: Hash) -> Self {
        let missed = if source.as_os_str().is_empty() { MISSES_MAX } else { 0 };
        Self { source, hash, bytes: Vec::new(), missed }
    }

    fn read(&mut self, entry: &Entry) -> Option<&[u8]> {
        if self.missed >= MISSES_MAX {
            return None;
        }
        let path = self.source.join(paths::from_bytes(&entry.path));
        let found = self.fill(&path).is_ok() && self.hash.of_blob(&self.bytes) == entry.oid;
        self.missed = if found { self.missed.saturating_sub(1) } else { self.missed + 1 };
        found.then_some(&self.bytes)
    }

    fn fill(&mut self, path: &Path) -> io::Result<()> {
        // `O_NONBLOCK`: a pipe may have taken the place of a file, and opening it would block.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let found = file.metadata()?;
        if !found.is_file() || found.len() > BLOB_BYTES_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.bytes.clear();
        file.read_to_end(&mut self.bytes).map(drop)
    }
}

fn feed(mut stdin: ChildStdin, entries: &[&Entry]) -> io::Result<()> {
    let mut lines = Vec::with_capacity(64 * 1024);
    for entry in entries {
        for byte in &entry.oid {
            write!(lines, "{byte:02x}")?;
        }
        lines.push(b'\n');
        if lines.len() > 60 * 1024 {
            stdin.write_all(&lines)?;
            lines.clear();
        }
    }
    stdin.write_all(&lines)
}

fn read_blob(
    reader: &mut impl BufRead,
    entry: &Entry,
    blob: &mut Vec<u8>,
) -> Result<(), CheckoutError> {
    let odd = |why: String| CheckoutError::NeedsGit(format!("git cat-file: {why}"));
    let mut header = Vec::new();
    reader.by_ref().take(256).read_until(b'\n', &mut header).map_err(|e| odd(e.to_string()))?;
    let text = String::from_utf8_lossy(&header);
    let mut words = text.split_ascii_whitespace().skip(1);
    let size = match (words.next(), words.next().and_then(|w| w.parse::<u64>().ok())) {
        (Some("blob"), Some(size)) if size <= BLOB_BYTES_MAX => size,
        _ => {
            let path = String::from_utf8_lossy(&entry.path);
            return Err(odd(format!("{:?} for {path}", text.trim_end())));
        }
    };
    blob.resize(usize::try_from(size).unwrap_or(0), 0);
    reader.read_exact(blob).map_err(|e| odd(e.to_string()))?;
    let mut end = [0];
    reader.read_exact(&mut end).map_err(|e| odd(e.to_string()))
}

/// The tracked paths and the directories of a commit.
struct Listing {
    entries: Vec<Entry>,
    trees: Vec<Tree>,
}

impl Listing {
    /// Parses `git ls-tree -r -t -z`; refuses whatever git itself would refuse to check out.
    fn parse(bytes: &[u8], top: Vec<u8>) -> Result<Self, CheckoutError> {
        let odd = || CheckoutError::NeedsGit("an unexpected tree".into());
        let mut listing =
            Self { entries: Vec::new(), trees: vec![Tree { path: Vec::new(), oid: top }] };
        for line in bytes.split(|b| *b == 0).filter(|l| !l.is_empty()) {
            let tab = line.iter().position(|b| *b == b'\t').ok_or_else(odd)?;
            let (head, path) = (&line[..tab], line[tab + 1..].to_vec());
            let mut words = head.split(|b| *b == b' ');
            let mut word = || words.next().unwrap_or_default();
            let mode =
                std::str::from_utf8(word()).ok().and_then(|m| u32::from_str_radix(m, 8).ok());
            let (mode, _, oid) = (mode.ok_or_else(odd)?, word(), unhex(word()).ok_or_else(odd)?);
            if !is_safe(&path) {
                return Err(odd());
            }
            match mode {
                0o040_000 => listing.trees.push(Tree { path, oid }),
                0o100_644 | 0o100_755 | 0o120_000 | 0o160_000 => {
                    listing.entries.push(Entry { path, mode, oid, stat: Stat::default() });
                }
                _ => return Err(odd()),
            }
        }
        // A name that is both a link and a directory would lead files below it out of the tree.
        let folders: BTreeSet<&[u8]> = listing.trees.iter().map(|t| t.path.as_slice()).collect();
        let doubled = folders.len() != listing.trees.len()
            || listing.entries.iter().any(|e| folders.contains(e.path.as_slice()));
        let sorted = listing.entries.is_sorted_by(|a, b| a.path < b.path);
        if sorted && !doubled { Ok(listing) } else { Err(odd()) }
    }
}

/// Reports whether no component leaves the tree or reaches into git's own directory, in any
/// spelling that a file system may fold. git refuses the same names.
fn is_safe(path: &[u8]) -> bool {
    path.split(|b| *b == b'/').all(|part| {
        let lower = part.to_ascii_lowercase();
        let git_like = lower.starts_with(b".git") && {
            let rest = &lower[4..];
            rest.is_empty() || rest.iter().all(|b| matches!(b, b' ' | b'.')) || !rest.is_ascii()
        };
        !part.is_empty() && part != b"." && part != b".." && !git_like && lower != b"git~1"
    })
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    if text.is_empty() || !text.len().is_multiple_of(2) {
        return None;
    }
    text.chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// Returns the number of entries in the header of an index file; `None` when there is no index.
pub(in crate::world) fn entry_count(index: &Path) -> Option<u32> {
    let mut header = [0; 12];
    File::open(index).ok()?.read_exact(&mut header).ok()?;
    (header[..4] == *b"DIRC")
        .then(|| u32::from_be_bytes([header[8], header[9], header[10], header[11]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_outside_tree_are_refused() {
        for safe in ["a", "a/b.c", ".gitignore", ".gitattributes", "git", "a/.github/x"] {
            assert!(is_safe(safe.as_bytes()), "{safe}");
        }
        for bad in ["", "..", "a/../b", "./a", ".git", "a/.GIT/config", "a//b", ".git.", "GIT~1"] {
            assert!(!is_safe(bad.as_bytes()), "{bad}");
        }
        assert!(!is_safe(".g\u{200c}it".replace('\u{200c}', "").as_bytes()));
    }
}
