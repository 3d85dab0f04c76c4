//! File systems that are made for one history: a small one that gets full, and one that turns
//! read-only. Both need the right to mount; without it they are skipped, and the table says so.

use std::path::Path;
use std::process::Command;

use crate::child;
use crate::ground::Ground;
use crate::trouble::Trouble;

/// Size of the small file system.
pub(crate) const SMALL_BYTES: u64 = 96 << 20;

fn mount(args: &[&str], at: &Path) -> Result<bool, Trouble> {
    Ok(child::run(Command::new("mount").args(args).arg(at))?.ok())
}

/// Puts a small file system where the data directory is; false where that is not permitted.
pub(crate) fn small(at: &Path) -> Result<bool, Trouble> {
    let size = format!("size={SMALL_BYTES},mode=700");
    mount(&["-t", "tmpfs", "-o", &size, "torture"], at)
}

/// Makes what is below a directory read-only, also for who has it open.
pub(crate) fn freeze(at: &Path) -> Result<bool, Trouble> {
    let text = at.to_string_lossy().into_owned();
    Ok(mount(&["--bind", &text], at)? && mount(&["-o", "remount,bind,ro"], at)?)
}

/// Takes away what was mounted here last.
pub(crate) fn take_away(at: &Path) -> Result<bool, Trouble> {
    Ok(child::run(Command::new("umount").arg("-l").arg(at))?.ok())
}

/// Takes away everything that is mounted in a history's place, the innermost first. Returns false
/// where mounts cannot be listed.
pub(crate) fn undo(ground: &Ground) -> bool {
    let Ok(table) = std::fs::read_to_string("/proc/self/mounts") else { return false };
    let places = table.lines().filter_map(|line| line.split(' ').nth(1)).map(Path::new);
    let mut ours: Vec<&Path> = places.filter(|p| p.starts_with(ground.root())).collect();
    ours.reverse();
    for place in ours {
        drop(take_away(place));
    }
    true
}
