//! Saves the sides of conflicts in an index as a tree: the index of an unfinished merge
//! refers to blobs that no commit holds. Writes objects and an index of its own; never
//! changes the index it reads.

use std::collections::BTreeSet;

use crate::core::Fault;
use crate::world::effects::collect::Collector;
use crate::world::fs::paths;
use crate::world::git;

/// Entries that are passed to one git call.
const ENTRIES_PER_CALL: usize = 200;

/// Returns a tree with the sides of all conflicts, each below the number of its stage; none
/// if there are no conflicts.
///
/// # Errors
/// When the disk is full, the task is cancelled, or git refuses an entry.
pub(in crate::world) fn tree(collector: &Collector<'_>) -> Result<Option<String>, Fault> {
    let listed = collector.run(&["ls-files", "-u", "-z"])?;
    let sides: BTreeSet<&[u8]> =
        listed.stdout.split(|b| *b == 0).filter(|s| !s.is_empty()).collect();
    if sides.is_empty() || !listed.status.success() {
        return Ok(None);
    }
    let sides: Vec<&[u8]> = sides.into_iter().collect();
    let place = collector.index.with_extension("sides");
    // An interrupted attempt may have left one, and `--add` would keep its entries.
    drop(paths::remove_file_if_any(&place));
    let on = |args: &[&str]| {
        let mut command = collector.command(args);
        command.env("GIT_INDEX_FILE", &place);
        command
    };
    for some in sides.chunks(ENTRIES_PER_CALL) {
        let mut command = on(&["update-index", "--add"]);
        for side in some.iter().filter_map(|side| cache_info(side)) {
            command.arg("--cacheinfo").arg(paths::from_bytes(&side));
        }
        let added = collector.git.run_command(command)?;
        if !added.status.success() {
            return Err(git::Error::failed("git update-index", &added).into());
        }
    }
    let written = collector.git.run_command(on(&["write-tree"]))?;
    drop(paths::remove_file_if_any(&place));
    let tree = String::from_utf8_lossy(&written.stdout).trim_end().to_owned();
    Ok(written.status.success().then_some(tree))
}

/// Converts `mode oid stage TAB path` to the form of `update-index`: `mode,oid,stage/path`.
fn cache_info(side: &[u8]) -> Option<Vec<u8>> {
    let (facts, path) = side.split_at(side.iter().position(|b| *b == b'\t')?);
    let mut facts = facts.split(|b| *b == b' ');
    let (mode, oid, stage) = (facts.next()?, facts.next()?, facts.next()?);
    Some([mode, b",", oid, b",", stage, b"/", &path[1..]].concat())
}

#[cfg(test)]
mod tests {
    use super::cache_info;

    #[test]
    fn cache_info_includes_stage() {
        let info = cache_info(b"100644 abc 2\ta/b c").expect("a side");
        assert_eq!(info, b"100644,abc,2/a/b c");
        assert_eq!(cache_info(b"100644 abc 2"), None);
        assert_eq!(cache_info(b"100644\ta"), None);
    }
}
