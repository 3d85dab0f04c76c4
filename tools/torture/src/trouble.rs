//! What keeps the torture itself from going on, as opposed to what it finds. Nothing here is a
//! verdict on the daemon.

use std::fmt;
use std::path::Path;

/// What was tried, and why it did not work.
#[derive(Debug, Clone)]
pub(crate) struct Trouble {
    what: String,
    causes: Vec<String>,
}

impl Trouble {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), causes: Vec::new() }
    }

    pub(crate) fn because(mut self, error: &dyn std::error::Error) -> Self {
        self.causes.push(error.to_string());
        let mut next = error.source();
        while let Some(cause) = next {
            self.causes.push(cause.to_string());
            next = cause.source();
        }
        self
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        self.causes.iter().try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl std::error::Error for Trouble {}

/// For `map_err`: what was tried with a path.
pub(crate) fn failed<'a, E: std::error::Error>(
    what: &'a str,
    path: &'a Path,
) -> impl Fn(E) -> Trouble + 'a {
    move |error| Trouble::new(format!("cannot {what} {}", path.display())).because(&error)
}
