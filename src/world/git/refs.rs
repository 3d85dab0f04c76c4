//! Reads refs without a process where that is as safe as git itself: plain files and `packed-refs`.
//! Anything unusual is reported as such and left to git. Changes nothing.
//!
//! A removal would otherwise wait for three processes that each read one line.

use std::io;
use std::path::Path;

use crate::core::Environment;

/// Prefix under which only refs of this program lie.
pub(in crate::world) const OURS: &str = "refs/groundskeeper/";

/// Returns the commit of a ref that is a plain file; `None` when only git can tell.
pub(in crate::world) fn loose(common: &Path, reference: &str) -> Option<String> {
    let path = common.join(reference);
    // A link is another name of some other ref.
    path.symlink_metadata().ok().filter(std::fs::Metadata::is_file)?;
    let text = std::fs::read_to_string(path).ok()?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    is_object_id(text).then(|| text.to_owned())
}

/// Reports whether a ref is a link, or points to another ref by name.
pub(in crate::world) fn is_another_name(common: &Path, reference: &str) -> bool {
    let path = common.join(reference);
    let link = path.symlink_metadata().is_ok_and(|found| found.is_symlink());
    link || path.is_file() && std::fs::read(path).is_ok_and(|text| text.starts_with(b"ref:"))
}

/// Returns the commit of a ref, loose or packed; `None` when it does not exist or
/// only git can tell.
pub(in crate::world) fn tip(common: &Path, reference: &str) -> Option<String> {
    // A loose ref overrides a packed one of the same name.
    if common.join(reference).symlink_metadata().is_ok_and(|found| !found.is_dir()) {
        return loose(common, reference);
    }
    let packed = packed(common).ok()?;
    let (commit, _) = entries(&packed).find(|(_, name)| *name == reference.as_bytes())?;
    let commit = std::str::from_utf8(commit).ok()?;
    is_object_id(commit).then(|| commit.to_owned())
}

/// Returns the content of `packed-refs`, whose names are bytes; empty when there is none.
///
/// # Errors
/// The error of the system: then it is unknown what is packed.
pub(in crate::world) fn packed(common: &Path) -> io::Result<Vec<u8>> {
    match std::fs::read(common.join("packed-refs")) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    }
}

/// Iterates over object id and name of each packed ref.
pub(in crate::world) fn entries(packed: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let lines = packed.split(|b| *b == b'\n').filter(|line| !line.starts_with(b"#"));
    lines.filter_map(|line| {
        let blank = line.iter().position(|b| *b == b' ')?;
        Some((&line[..blank], line[blank + 1..].trim_ascii_end()))
    })
}

/// Returns the text of a HEAD of any form: some programs write a link to the branch.
///
/// # Errors
/// The error of the system.
pub(in crate::world) fn head_text(git_dir: &Path) -> io::Result<Vec<u8>> {
    use std::os::unix::ffi::OsStrExt as _;
    let head = git_dir.join("HEAD");
    match std::fs::read_link(&head) {
        Ok(to) if to.starts_with("refs") => Ok([b"ref: ", to.as_os_str().as_bytes()].concat()),
        _ => std::fs::read(&head),
    }
}

pub(in crate::world) fn is_object_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Reports whether a full name is certainly allowed by git (`git check-ref-format`
/// allows some more).
pub(in crate::world) fn is_plain_name(reference: &str) -> bool {
    let parts = || reference.split('/');
    let bad = |c: char| c.is_ascii_control() || " ~^:?*[\\".contains(c);
    reference.starts_with("refs/")
        && parts().all(|p| !p.is_empty() && !p.starts_with(['.', '-']) && !p.ends_with(".lock"))
        && !reference.contains("..")
        && !reference.contains("@{")
        && !reference.ends_with('.')
        && !reference.contains(bad)
}

/// Reports whether a branch, tag or remote branch other than `but` points to exactly this commit,
/// as far as one read tells. `false` proves nothing.
pub(in crate::world) fn is_held(common: &Path, commit: &str, first: &str, but: &str) -> bool {
    let holds = |name: &str| {
        let kind = ["refs/heads/", "refs/tags/", "refs/remotes/"];
        name != but && kind.iter().any(|k| name.starts_with(k))
    };
    if holds(first) && loose(common, first).as_deref() == Some(commit) {
        return true;
    }
    let packed = packed(common).unwrap_or_default();
    entries(&packed).any(|(at, name)| {
        // A loose ref of the same name overrides the packed one.
        let is_loose = |name: &str| common.join(name).symlink_metadata().is_ok();
        let name = std::str::from_utf8(name).unwrap_or_default();
        at == commit.as_bytes() && holds(name) && !is_loose(name)
    })
}

/// Returns the address that signed the first line of a ref's present history: its creator. Lines of
/// an earlier ref of the same name may precede it, so the last creation line counts.
pub(in crate::world) fn signed_by(common: &Path, reference: &str) -> Option<String> {
    let history = std::fs::read(common.join("logs").join(reference)).ok()?;
    let made = |line: &&[u8]| line.starts_with(b"0") && line.iter().take(40).all(|b| *b == b'0');
    let line = history.split(|b| *b == b'\n').rfind(made)?;
    let line = line.split(|b| *b == b'\t').next()?;
    let text = String::from_utf8_lossy(line);
    Some(text.split_once('<')?.1.split_once('>')?.0.to_owned())
}

/// Reports whether a branch's history names this incarnation as its creator, or one that it
/// continues. Before incarnations had a nonce, name and log were the only evidence.
pub(in crate::world) fn is_made_by(
    common: &Path,
    reference: &str,
    env: &Environment,
    log: &str,
) -> bool {
    let signed = signed_by(common, reference);
    let life = signed.as_deref().and_then(|s| s.strip_suffix("@groundskeeper"));
    let Some(life) = life else { return false };
    let short = log.get(..8).unwrap_or(log);
    let Some(rest) = life.strip_prefix(&format!("{}.", env.id)) else { return false };
    let mut parts = rest.split('.');
    let number = parts.next().is_some_and(|n| n.parse::<u32>().is_ok_and(|n| n <= env.incarnation));
    let known =
        |nonce: &str| env.nonce.iter().chain(&env.lineage).any(|known| known.as_str() == nonce);
    number
        && parts.next() == Some(short)
        && parts.next().is_none_or(known)
        && parts.next().is_none()
}

/// Reports whether any ref lies below a folder of refs, whose name ends in a slash.
pub(in crate::world) fn any_below(common: &Path, folder: &str) -> bool {
    let has_entry = |dir: &Path| std::fs::read_dir(dir).is_ok_and(|mut all| all.next().is_some());
    has_entry(&common.join(folder))
        || packed(common).is_ok_and(|packed| {
            entries(&packed).any(|(_, name)| name.starts_with(folder.as_bytes()))
        })
}

/// Returns whether a repository exists that keeps its refs in files. One that was converted since
/// keeps them where only git reads them.
pub(in crate::world) fn are_files(common: &Path) -> bool {
    common.is_dir() && common.join("reftable").symlink_metadata().is_err()
}

/// Reports whether a ref of this name exists, loose or packed.
pub(in crate::world) fn exists(common: &Path, reference: &str) -> bool {
    let loose = common.join(reference).symlink_metadata().is_ok_and(|found| !found.is_dir());
    // If `packed-refs` cannot be read the ref may exist, so the answer is yes.
    loose
        || packed(common)
            .map_or(true, |packed| entries(&packed).any(|(_, name)| name == reference.as_bytes()))
}
