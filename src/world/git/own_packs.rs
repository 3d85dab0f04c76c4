//! Packs of ours in a repository: they hold what rescues have and no branch, which would otherwise
//! be loose objects for ever, three or more a rescue.
//!
//! A pack is verified before anything goes that it holds too: loose objects that were put into it,
//! and earlier packs of ours. Every object stays in the repository. Packs and objects that others
//! made, and the unreachable ones, are left to the user's git; nothing is pruned or expired here.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::failpoint::kill::point;
use crate::world::fs;
use crate::world::fs::paths;
use crate::world::git::command::Git;
use crate::world::git::error::Error;
use crate::world::git::gc;
use crate::world::git::refs;

/// First part of the names of our packs.
const PREFIX: &str = "groundskeeper-";
/// Most objects that one step packs, and that a pack has which is packed again.
const OBJECTS_MAX: usize = 20_000;
/// Object names per git call.
const ARGUMENTS_MAX: usize = 200;
/// Age from which a pack without an index is one that a killed git left.
const STALE: Duration = Duration::from_secs(3_600);
/// Layout of an index of version 2: header, 256 counts, then the sorted names.
const INDEX_HEAD: [u8; 8] = [0xff, b't', b'O', b'c', 0, 0, 0, 2];
const INDEX_NAMES: usize = 8 + 256 * 4;

/// The packs of ours in one repository.
pub(in crate::world) struct OwnPacks<'a> {
    pub(in crate::world) git: &'a Git<'a>,
    pub(in crate::world) common: &'a Path,
    /// The lock of the step, which is the input of its gits: the list of objects goes into it.
    pub(in crate::world) lock: &'a File,
}

/// A pack of ours.
struct Pack {
    index: PathBuf,
    objects: BTreeSet<String>,
}

impl OwnPacks<'_> {
    /// Packs the loose objects that these commits have and no branch, tag or remote branch has, up
    /// to a bound, and those of `lists`, which are ours alone. `pause` is called for each file that
    /// goes.
    ///
    /// # Errors
    /// Those of git, of the system and of `pause`; no object is lost then.
    pub(in crate::world) fn pack<E: From<Error>>(
        &self,
        commits: &BTreeSet<String>,
        lists: &BTreeSet<String>,
        pause: &mut dyn FnMut() -> Result<(), E>,
    ) -> Result<(), E> {
        let at = self.folder();
        if self.is_unusual() || gc::runs(self.common) {
            return Ok(());
        }
        self.forget_unfinished();
        let mut loose = self.loose_objects(commits)?;
        loose.extend(lists.iter().filter(|name| self.loose(name).exists()).cloned());
        if loose.is_empty() {
            return Ok(());
        }
        let merged = self.to_merge(loose.len());
        let wanted: BTreeSet<&String> =
            loose.iter().chain(merged.iter().flat_map(|pack| &pack.objects)).collect();
        let hash = self.write(&wanted)?;
        let index = at.join(format!("{PREFIX}{hash}.idx"));
        self.git.output(["verify-pack".as_ref(), index.as_os_str()])?;
        let held = names_in(&index, hash.len() / 2).unwrap_or_default();
        if !wanted.iter().all(|name| held.contains(*name)) {
            return Err(Error::Defect("a pack lacks objects that were put into it").into());
        }
        // The pack's name must be on the disk before that of a loose object goes.
        let synced = groundskeeper_system::portable::sync_dir(&at);
        synced.map_err(fs::Error::about("sync", &at)).map_err(Error::from)?;
        point("pack.verified");
        for name in &loose {
            self.unlink_loose(name)?;
            point("pack.unlinked_one");
            pause()?;
        }
        for pack in merged.iter().filter(|pack| pack.index != index) {
            // git takes the index first, too: without it the pack is no longer looked at.
            for kind in ["idx", "rev", "pack"] {
                let path = pack.index.with_extension(kind);
                let removed = paths::remove_file_if_any(&path);
                removed.map_err(fs::Error::about("remove", &path)).map_err(Error::from)?;
            }
            pause()?;
        }
        Ok(())
    }

    fn folder(&self) -> PathBuf {
        self.common.join("objects/pack")
    }

    /// Returns whether git keeps more about packs here than the packs: an index over all of them,
    /// or objects that are only fetched when they are needed.
    fn is_unusual(&self) -> bool {
        let is_special =
            |name: &str| name.starts_with("multi-pack-index") || name.ends_with(".promisor");
        self.files().iter().any(|name| is_special(name))
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder()).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    /// Returns the loose objects that no branch has; bounded.
    fn loose_objects(&self, commits: &BTreeSet<String>) -> Result<BTreeSet<String>, Error> {
        let mut found = BTreeSet::new();
        let all: Vec<&str> = commits.iter().map(String::as_str).collect();
        for some in all.chunks(ARGUMENTS_MAX) {
            let list = ["rev-list", "--objects", "--no-object-names", "--unpacked"];
            let but = ["--not", "--branches", "--tags", "--remotes"];
            let listed =
                self.git.output(list.into_iter().chain(some.iter().copied()).chain(but))?;
            let text = String::from_utf8_lossy(&listed);
            let names = text.lines().filter(|n| refs::is_object_id(n));
            found.extend(names.filter(|n| self.loose(n).exists()).map(str::to_owned));
            if found.len() >= OBJECTS_MAX {
                break;
            }
        }
        let rest = found.iter().nth(OBJECTS_MAX).cloned();
        rest.map(|first| found.split_off(&first));
        Ok(found)
    }

    /// Returns the packs of ours that are packed again with `count` further objects: the small
    /// ones, so that there are few and an object is written a few times at most.
    fn to_merge(&self, count: usize) -> Vec<Pack> {
        let files = self.files();
        let is_kept = |stem: &str| files.iter().any(|f| *f == format!("{stem}.keep"));
        let indexes = files.iter().filter_map(|file| {
            let stem = file.strip_suffix(".idx").filter(|stem| stem.starts_with(PREFIX))?;
            (!is_kept(stem)).then(|| (self.folder().join(file), stem.len() - PREFIX.len()))
        });
        let packs = indexes.filter_map(|(index, digits)| {
            Some(Pack { objects: names_in(&index, digits / 2)?, index })
        });
        let mut packs: Vec<Pack> = packs.collect();
        packs.sort_by_key(|pack| pack.objects.len());
        let mut total = count;
        packs.retain(|pack| {
            let joins =
                pack.objects.len() <= 2 * total && pack.objects.len() + total <= OBJECTS_MAX;
            total += if joins { pack.objects.len() } else { 0 };
            joins
        });
        packs
    }

    /// Writes a pack, and returns the hash in its name.
    fn write(&self, objects: &BTreeSet<&String>) -> Result<String, Error> {
        let list = objects.iter().fold(String::new(), |text, name| text + name + "\n");
        self.set_input(list.as_bytes()).map_err(fs::Error::about("write", self.common))?;
        let bounds = ["-c", "pack.threads=1", "-c", "pack.windowMemory=64m"];
        let form = ["-c", "pack.packSizeLimit=0", "-c", "pack.indexVersion=2"];
        let settings = ["-c", "core.fsync=all"].into_iter().chain(bounds).chain(form);
        let pack = ["pack-objects", "-q", "--delta-base-offset"];
        let mut command = self.git.command(settings.chain(pack));
        command.arg(self.folder().join(PREFIX.trim_end_matches('-')));
        let made = self.git.line_of("git pack-objects", command);
        self.set_input(b"").map_err(fs::Error::about("write", self.common))?;
        let made = made?;
        if refs::is_object_id(&made) {
            return Ok(made);
        }
        Err(Error::Defect("git pack-objects names no pack"))
    }

    fn set_input(&self, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.lock;
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(bytes)?;
        file.rewind()
    }

    /// Returns the file of a loose object.
    fn loose(&self, name: &str) -> PathBuf {
        let (folder, rest) = name.split_at(2);
        self.common.join("objects").join(folder).join(rest)
    }

    fn unlink_loose(&self, name: &str) -> Result<(), Error> {
        let path = self.loose(name);
        paths::remove_file_if_any(&path).map_err(fs::Error::about("remove", &path))?;
        // git makes the folder again when it needs it.
        drop(path.parent().map(std::fs::remove_dir));
        Ok(())
    }

    /// Removes packs of ours that a killed git left without an index, which no git looks at.
    fn forget_unfinished(&self) {
        let files = self.files();
        for file in files.iter().filter(|file| file.starts_with(PREFIX)) {
            let Some((stem, kind)) = file.rsplit_once('.') else { continue };
            let has_index = files.iter().any(|f| *f == format!("{stem}.idx"));
            let path = self.folder().join(file);
            let age =
                path.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
            let is_stale = age.is_some_and(|age| age >= STALE);
            if ["pack", "rev"].contains(&kind) && !has_index && is_stale {
                drop(paths::remove_file_if_any(&path));
            }
        }
    }
}

/// Returns the names of the objects in the pack of an index; none for an index that is not of the
/// known layout, or has more than is packed again.
fn names_in(index: &Path, width: usize) -> Option<BTreeSet<String>> {
    let mut head = [0; INDEX_NAMES];
    let mut file = File::open(index).ok()?;
    file.read_exact(&mut head).ok()?;
    let last: [u8; 4] = head.last_chunk().copied()?;
    let count = usize::try_from(u32::from_be_bytes(last)).ok()?;
    if !head.starts_with(&INDEX_HEAD) || !matches!(width, 20 | 32) || count > 2 * OBJECTS_MAX {
        return None;
    }
    let mut names = vec![0; count.checked_mul(width)?];
    file.read_exact(&mut names).ok()?;
    Some(names.chunks_exact(width).map(crate::format::hex).collect())
}
