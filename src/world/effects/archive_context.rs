//! What an effect on an archived incarnation works with.

use std::fs::File;

use crate::core::Remains;
use crate::world::effects::context::World;
use crate::world::process::cancel::Cancel;

/// Work on the remains of one incarnation.
pub(in crate::world) struct Task<'a> {
    pub(in crate::world) world: &'a World,
    pub(in crate::world) remains: &'a Remains,
    pub(in crate::world) lock: &'a File,
    pub(in crate::world) cancel: &'a Cancel,
}
