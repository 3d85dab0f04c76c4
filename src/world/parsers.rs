//! Parsers of what git and users write, for tools that feed them made-up bytes. Each returns for
//! any input, and panics for none. Not in what is shipped.

use std::path::Path;

use crate::world::git::index::format::Hash;
use crate::world::git::index::read;
use crate::world::git::listing;
use crate::world::status::parse::Changes;
use crate::world::watch::rules;

/// Reads bytes as an index, with either kind of object id.
///
/// # Panics
/// When an index that was sealed has no checksum.
pub fn index(bytes: &[u8]) {
    for hash in ["sha1", "sha256"].into_iter().filter_map(Hash::named) {
        let mut places = Vec::new();
        let _summed = read::is_summed(bytes, hash);
        let understood = read::each(bytes, hash, |entry| places.push(entry.at)).is_some();
        if understood {
            let mut changed = bytes.to_vec();
            for at in places {
                read::unmark(&mut changed, at, hash);
            }
            read::seal(&mut changed, hash);
            assert!(read::is_summed(&changed, hash), "a sealed index has its checksum");
        }
    }
}

/// Reads bytes as the output of `git status` and of `git ls-files -v`.
pub fn status(bytes: &[u8]) {
    let _changes = Changes::parse(bytes);
    let _hidden = listing::hidden(bytes, Path::new("/nowhere")).count();
}

/// Reads bytes as an ignore file, and asks it about a path.
pub fn ignore(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (rules_text, path) = text.split_once('\0').unwrap_or((&text, "target/debug"));
    let _ignored = rules::ignored_by(rules_text, Path::new(path));
}
