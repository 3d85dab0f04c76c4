//! Looks for contents from the outside: in files of worktrees and trash, among the copies of
//! rescues, and in objects that refs, heads, their histories and indexes reach. Reads only; what it
//! rebuilds of copies is in a folder of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::place::Place;
use super::tokens::{Ledger, Token};
use crate::trouble::Trouble;

/// Longer contents hold no token.
const CONTENT_MAX: u64 = 64 << 10;
const DEPTH_MAX: usize = 64;
/// How a token begins: as it is, rotated, and in UTF-16.
const MAGIC: [&[u8]; 3] = [b"tok-", b"gbx-", b"t\0o\0k\0-\0"];

/// Contents of objects that were read before: an object never changes.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    known: BTreeMap<String, Option<Vec<u8>>>,
}

/// Where to look.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// The repository.
    pub(crate) common: PathBuf,
    /// Folders whose files are looked at, whoever they belong to.
    pub(crate) folders: Vec<PathBuf>,
    /// Folders with copies of rescues.
    pub(crate) copies: Vec<PathBuf>,
}

/// What was found so far.
#[derive(Debug, Default)]
struct Found {
    contents: BTreeSet<Vec<u8>>,
    /// Repositories below the folders.
    repositories: Vec<PathBuf>,
}

/// Texts of the tokens that are nowhere.
pub(crate) fn missing(
    place: &Place,
    places: &Places,
    ledger: &Ledger,
    objects: &mut Objects,
) -> Result<BTreeSet<String>, Trouble> {
    let mut found = Found::default();
    for folder in &places.folders {
        walk(folder, 0, &mut found);
    }
    for folder in &places.copies {
        copies(folder, &mut found.contents);
    }
    let mut owed: Vec<&Token> = ledger.owed().collect();
    owed.retain(|token| !has(&found, token));
    if !owed.is_empty() {
        reachable(place, &places.common, true, objects, &mut found)?;
        owed.retain(|token| !has(&found, token));
    }
    if !owed.is_empty() {
        for repository in found.repositories.clone() {
            reachable(place, &repository, false, objects, &mut found)?;
        }
        owed.retain(|token| !has(&found, token));
    }
    if !owed.is_empty() {
        rebuilt(place, places, objects, &mut found)?;
        owed.retain(|token| !has(&found, token));
    }
    if owed.iter().any(|token| token.unsaved) {
        let beside = beside_the_trash(place, &places.common, objects)?;
        owed.retain(|token| !(token.unsaved && has(&beside, token)));
    }
    Ok(owed.into_iter().map(|token| token.text.clone()).collect())
}

/// Texts of the tokens whose content a ref of the repository reaches that `which` names, and no
/// file.
pub(crate) fn in_refs(
    place: &Place,
    common: &Path,
    revisions: &[String],
    ledger: &Ledger,
    objects: &mut Objects,
) -> Result<BTreeSet<String>, Trouble> {
    let mut found = Found::default();
    objects_of(place, common, revisions, objects, &mut found)?;
    let held = ledger.owed().filter(|token| has(&found, token));
    Ok(held.map(|token| token.text.clone()).collect())
}

fn has(found: &Found, token: &Token) -> bool {
    token.accepted.iter().any(|content| found.contents.contains(content))
}

fn note(content: Vec<u8>, found: &mut BTreeSet<Vec<u8>>) {
    let magic = |content: &[u8]| {
        MAGIC.iter().any(|magic| content.windows(magic.len()).any(|part| part == *magic))
    };
    if magic(&content) {
        found.insert(content);
    }
}

fn read(path: &Path, found: &mut BTreeSet<Vec<u8>>) {
    let Ok(meta) = path.symlink_metadata() else { return };
    if meta.is_symlink() {
        if let Ok(to) = std::fs::read_link(path) {
            note(to.as_os_str().as_bytes().to_vec(), found);
        }
    } else if meta.is_file() && meta.len() <= CONTENT_MAX {
        note(std::fs::read(path).unwrap_or_default(), found);
    }
}

fn walk(folder: &Path, depth: usize, found: &mut Found) {
    if depth > DEPTH_MAX {
        return;
    }
    if is_bare(folder) {
        found.repositories.push(folder.to_owned());
        return;
    }
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if entry.file_name() == ".git" && (!is_dir || is_bare(&path)) {
            // Git's own files hold no work as they are; git is asked.
            found.repositories.push(folder.to_owned());
        } else if is_dir {
            walk(&path, depth + 1, found);
        } else {
            read(&path, &mut found.contents);
        }
    }
}

fn is_bare(folder: &Path) -> bool {
    ["HEAD", "objects", "refs"].iter().all(|name| folder.join(name).exists())
}

/// Entries of the lists of all copies below a folder: kind, path, and the file that has the
/// content.
fn listed(folder: &Path) -> Vec<(String, PathBuf, PathBuf)> {
    let below = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut all = Vec::new();
    for rescue in below(folder).flat_map(|life| below(&life.path()).map(|entry| entry.path())) {
        let list = std::fs::read(rescue.join("list")).unwrap_or_default();
        for (number, line) in list.split(|b| *b == 0).enumerate() {
            let parts: Vec<&[u8]> = line.splitn(5, |b| *b == b' ').collect();
            let [kind, _, _, _, path] = parts.as_slice() else { continue };
            let kind = String::from_utf8_lossy(kind).into_owned();
            let path = PathBuf::from(std::ffi::OsStr::from_bytes(path));
            all.push((kind, path, rescue.join(number.to_string())));
        }
    }
    all
}

fn copies(folder: &Path, found: &mut BTreeSet<Vec<u8>>) {
    for (kind, _, content) in listed(folder) {
        if kind == "file" || kind == "link" {
            read(&content, found);
        }
    }
}

/// Repositories that were copied file by file are put together again, and asked.
fn rebuilt(
    place: &Place,
    places: &Places,
    objects: &mut Objects,
    found: &mut Found,
) -> Result<(), Trouble> {
    let root = place.path("rebuilt");
    drop(std::fs::remove_dir_all(&root));
    for (number, folder) in places.copies.iter().enumerate() {
        for (kind, path, content) in listed(folder) {
            let life = content.strip_prefix(folder).ok().and_then(Path::parent);
            let to = root.join(number.to_string()).join(life.unwrap_or(Path::new(""))).join(path);
            if kind == "folder" {
                drop(std::fs::create_dir_all(&to));
            } else if kind == "file" {
                drop(to.parent().map(std::fs::create_dir_all));
                drop(std::fs::copy(&content, &to));
            }
        }
    }
    let mut there = Found::default();
    walk(&root, 0, &mut there);
    for repository in there.repositories {
        reachable(place, &repository, false, objects, found)?;
    }
    drop(std::fs::remove_dir_all(&root));
    Ok(())
}

/// Everything that a repository reaches: its refs, the heads of its worktrees and what they were,
/// its stashes and indexes. The history of a branch is no place to keep work in.
fn reachable(
    place: &Place,
    at: &Path,
    outer: bool,
    objects: &mut Objects,
    found: &mut Found,
) -> Result<(), Trouble> {
    let mut revisions = Vec::new();
    let mut take = |text: String| {
        let ids = text.lines().map(str::trim).filter(|id| id.len() >= 40);
        revisions
            .extend(ids.filter(|id| id.bytes().all(|b| b.is_ascii_hexdigit())).map(str::to_owned));
    };
    take(place.git(at, &["for-each-ref", "--format=%(objectname)"])?.out);
    take(place.git(at, &["reflog", "show", "--format=%H", "refs/stash", "--"])?.out);
    let listed = place.git(at, &["worktree", "list", "--porcelain", "-z"])?.out;
    for line in listed.split('\0') {
        if let Some(head) = line.strip_prefix("HEAD ") {
            take(head.to_owned());
        } else if let Some(path) = line.strip_prefix("worktree ") {
            let worktree = Path::new(path);
            if worktree.is_dir() {
                // Where HEAD has no history, git shows that of its branch.
                if place.git(worktree, &["reflog", "exists", "HEAD"])?.ok() {
                    let args = ["reflog", "show", "--format=%H", "HEAD", "--"];
                    take(place.git(worktree, &args)?.out);
                }
                take(staged(place, worktree, &[])?);
            }
        }
    }
    if outer {
        take(histories_and_indexes(place, at, "worktrees")?);
    }
    objects_of(place, at, &revisions, objects, found)
}

/// What an index holds, one id a line. Each index is asked for by itself, so that one which cannot
/// be read is in the way of no other.
fn staged(place: &Place, at: &Path, before: &[&str]) -> Result<String, Trouble> {
    let mut args = before.to_vec();
    args.extend(["ls-files", "-s", "-z"]);
    let listed = place.git(at, &args)?.out;
    let ids = listed.split('\0').filter_map(|line| line.split(' ').nth(1));
    Ok(ids.collect::<Vec<_>>().join("\n"))
}

/// What the heads of worktrees were, whether their directories are there or not, and what their
/// indexes hold, from the registrations in a folder of the repository.
fn histories_and_indexes(place: &Place, common: &Path, folder: &str) -> Result<String, Trouble> {
    let mut text = String::new();
    let admins = std::fs::read_dir(common.join(folder)).into_iter().flatten().flatten();
    for admin in admins.map(|entry| entry.path()) {
        let log = std::fs::read_to_string(admin.join("logs/HEAD")).unwrap_or_default();
        for id in log.lines().filter_map(|line| line.split(' ').nth(1)) {
            text += id;
            text.push('\n');
        }
        text += &std::fs::read_to_string(admin.join("ORIG_HEAD")).unwrap_or_default();
        text.push('\n');
        let git_dir = format!("--git-dir={}", admin.display());
        text += &staged(place, common, &[&git_dir])?;
        text.push('\n');
    }
    Ok(text)
}

/// What lies beside the trash: the registrations of what was removed, which a restore needs. It is
/// promised for what was removed without a rescue, and for nothing else.
fn beside_the_trash(place: &Place, common: &Path, objects: &mut Objects) -> Result<Found, Trouble> {
    let mut found = Found::default();
    let text = histories_and_indexes(place, common, "groundskeeper")?;
    let revisions: Vec<String> =
        text.lines().map(str::to_owned).filter(|l| !l.is_empty()).collect();
    objects_of(place, common, &revisions, objects, &mut found)?;
    Ok(found)
}

fn objects_of(
    place: &Place,
    at: &Path,
    revisions: &[String],
    objects: &mut Objects,
    found: &mut Found,
) -> Result<(), Trouble> {
    let mut input = revisions.join("\n").into_bytes();
    input.push(b'\n');
    let args = ["rev-list", "--objects", "--missing=allow-any", "--ignore-missing", "--stdin"];
    let listed = place.pipe_git(at, &args, input)?;
    let text = String::from_utf8_lossy(&listed);
    let ids: BTreeSet<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    let fresh: Vec<&str> =
        ids.iter().copied().filter(|id| !objects.known.contains_key(*id)).collect();
    contents(place, at, &fresh, objects)?;
    for id in ids {
        if let Some(Some(content)) = objects.known.get(id) {
            found.contents.insert(content.clone());
        }
    }
    Ok(())
}

/// Reads objects and remembers those that hold a token.
fn contents(place: &Place, at: &Path, ids: &[&str], objects: &mut Objects) -> Result<(), Trouble> {
    if ids.is_empty() {
        return Ok(());
    }
    let mut asked = ids.join("\n").into_bytes();
    asked.push(b'\n');
    let output = place.pipe_git(at, &["cat-file", "--batch"], asked)?;
    let mut rest = output.as_slice();
    for id in ids {
        let Some(end) = rest.iter().position(|b| *b == b'\n') else { break };
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest = rest.get(end + 1..).unwrap_or_default();
        if head.ends_with("missing") {
            continue;
        }
        let size = head.rsplit(' ').next().and_then(|n| n.parse::<usize>().ok()).unwrap_or(0);
        let mut kept = BTreeSet::new();
        if head.contains(" blob ") {
            note(rest.get(..size).unwrap_or_default().to_vec(), &mut kept);
        }
        objects.known.insert((*id).to_owned(), kept.pop_first());
        rest = rest.get(size + 1..).unwrap_or_default();
    }
    Ok(())
}
