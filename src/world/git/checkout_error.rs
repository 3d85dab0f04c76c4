//! Why a checkout by our own threads ended early. Holds no rule: `checkout.rs` decides what
//! follows.

use crate::world::git::error::Error;
use crate::world::{fs, process};

pub(super) enum CheckoutError {
    /// This checkout must be done by git. Nothing was written yet, or git overwrites it.
    NeedsGit(String),
    Failed(Error),
}

impl From<Error> for CheckoutError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<process::Error> for CheckoutError {
    fn from(error: process::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<fs::Error> for CheckoutError {
    fn from(error: fs::Error) -> Self {
        Self::Failed(error.into())
    }
}
