//! The error of the bridge between serde and `wincode`: a text that tells what went wrong.

use std::fmt::Display;

use serde::{de, ser};

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failed(pub(super) String);

impl Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failed {}

impl ser::Error for Failed {
    fn custom<T: Display>(why: T) -> Self {
        Self(why.to_string())
    }
}

impl de::Error for Failed {
    fn custom<T: Display>(why: T) -> Self {
        Self(why.to_string())
    }
}

pub(super) fn failed(why: impl Display) -> Failed {
    Failed(why.to_string())
}
