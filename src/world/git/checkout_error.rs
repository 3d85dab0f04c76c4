//! Why a checkout by our own threads ended early. Holds no rule: `checkout.rs` decides what
//! follows.

use crate::core::Fault;
use crate::world::process;

pub(super) enum CheckoutError {
    /// This checkout must be done by git. Nothing was written yet, or git overwrites it.
    NeedsGit(String),
    Fault(Fault),
}

impl From<Fault> for CheckoutError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<process::Error> for CheckoutError {
    fn from(error: process::Error) -> Self {
        Self::Fault(error.into())
    }
}
