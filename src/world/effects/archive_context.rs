//! The context of an effect on an archived incarnation. Holds references only
//! and does nothing itself.

use std::fs::File;

use crate::core::ArchivedIncarnation;
use crate::world::effects::context::World;
use crate::world::process::cancel::Cancel;

/// One effect on the archive of one incarnation: its trash entry, rescue refs and raw copies.
pub(in crate::world) struct Task<'a> {
    pub(in crate::world) world: &'a World,
    pub(in crate::world) archive: &'a ArchivedIncarnation,
    /// The archives whose rescues are to be folded; empty for every other step.
    pub(in crate::world) to_fold: &'a [ArchivedIncarnation],
    /// Child processes inherit the open lock file, so the lock outlives a killed daemon.
    pub(in crate::world) lock: &'a File,
    pub(in crate::world) cancel: &'a Cancel,
}
