//! Refs, read without a process where that is as safe as git itself: plain files, and the list of
//! packed ones. Anything out of the ordinary is left to git, and said so. Changes nothing.
//!
//! A removal would otherwise wait for three processes that each look at one line.

use std::path::Path;

use crate::core::Environment;

/// Where no refs but ours are.
pub(super) const OURS: &str = "refs/groundskeeper/";

/// The commit that a ref is at, if it is a plain file; none when only git can tell.
pub(super) fn loose(common: &Path, reference: &str) -> Option<String> {
    let text = std::fs::read_to_string(common.join(reference)).ok()?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    is_object_id(text).then(|| text.to_owned())
}

/// The commit that a ref is at, loose or packed; none when it is neither, or only git can tell.
pub(super) fn tip(common: &Path, reference: &str) -> Option<String> {
    if common.join(reference).exists() {
        return loose(common, reference);
    }
    let packed = std::fs::read_to_string(common.join("packed-refs")).ok()?;
    let found = packed.lines().find_map(|line| line.strip_suffix(reference)?.strip_suffix(' '));
    found.filter(|commit| is_object_id(commit)).map(str::to_owned)
}

pub(super) fn is_object_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether a full name is one that git allows for sure (`git check-ref-format` allows some more).
pub(super) fn is_plain_name(reference: &str) -> bool {
    let parts = || reference.split('/');
    let bad = |c: char| c.is_ascii_control() || " ~^:?*[\\".contains(c);
    reference.starts_with("refs/")
        && parts().all(|p| !p.is_empty() && !p.starts_with(['.', '-']) && !p.ends_with(".lock"))
        && !reference.contains("..")
        && !reference.contains("@{")
        && !reference.ends_with('.')
        && !reference.contains(bad)
}

/// Whether a branch, tag or remote branch other than `but` is at exactly this commit, as far as
/// one look tells. False says nothing.
pub(super) fn is_held(common: &Path, commit: &str, first: &str, but: &str) -> bool {
    let holds = |name: &str| {
        let kind = ["refs/heads/", "refs/tags/", "refs/remotes/"];
        name != but && kind.iter().any(|k| name.starts_with(k))
    };
    if holds(first) && loose(common, first).as_deref() == Some(commit) {
        return true;
    }
    let packed = std::fs::read_to_string(common.join("packed-refs")).unwrap_or_default();
    packed.lines().any(|line| {
        // A loose file of the same name would be what counts.
        let named = line.strip_prefix(commit).and_then(|rest| rest.strip_prefix(' '));
        named.is_some_and(|name| holds(name) && !common.join(name).exists())
    })
}

/// The address that signed the line with which a ref's history, as it is now, began: who made it. A
/// line of an earlier ref of the same name may stand before it.
pub(super) fn signed_by(common: &Path, reference: &str) -> Option<String> {
    let history = std::fs::read(common.join("logs").join(reference)).ok()?;
    let made = |line: &&[u8]| line.starts_with(b"0") && line.iter().take(40).all(|b| *b == b'0');
    let line = history.split(|b| *b == b'\n').rfind(made)?;
    let line = line.split(|b| *b == b'\t').next()?;
    let text = String::from_utf8_lossy(line);
    Some(text.split_once('<')?.1.split_once('>')?.0.to_owned())
}

/// Whether a branch's history says that this life made it, or one that it goes on
/// with. Before lives had a nonce, name and log were all that told.
pub(super) fn is_made_by(common: &Path, reference: &str, env: &Environment, log: &str) -> bool {
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

/// Whether there is any ref below a folder of refs, whose name ends in a slash.
pub(super) fn any_below(common: &Path, folder: &str) -> bool {
    let has_entry = |dir: &Path| std::fs::read_dir(dir).is_ok_and(|mut all| all.next().is_some());
    let packed = std::fs::read_to_string(common.join("packed-refs")).unwrap_or_default();
    has_entry(&common.join(folder))
        || packed.lines().any(|l| l.split(' ').nth(1).is_some_and(|name| name.starts_with(folder)))
}

/// Whether there is a ref of this name, packed or not.
pub(super) fn exists(common: &Path, reference: &str) -> bool {
    common.join(reference).symlink_metadata().is_ok_and(|found| !found.is_dir())
        || std::fs::read_to_string(common.join("packed-refs"))
            .is_ok_and(|text| text.lines().any(|l| l.split(' ').nth(1) == Some(reference)))
}
