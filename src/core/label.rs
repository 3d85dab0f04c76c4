//! Labels: what people call an environment besides its id. A label is for people only: nothing is
//! found by it, and no file, branch or ref carries it.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::id::IdError;

/// Longest label in bytes.
pub const LABEL_BYTES_MAX: usize = 200;

/// The display label of an environment: one line of text, with no blanks at its ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Label(String);

impl Label {
    /// Checks that `text` can be a label. Blanks at its ends are left out.
    ///
    /// # Errors
    /// [`IdError`] names the first violation: it is empty, too long, or holds a control character.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let text = text.trim();
        match (text.len(), text.chars().find(|c| c.is_control())) {
            (0, _) => Err(IdError::Empty),
            (n, _) if n > LABEL_BYTES_MAX => Err(IdError::TooLong(n, LABEL_BYTES_MAX)),
            (_, Some(bad)) => Err(IdError::BadCharacter(bad)),
            (_, None) => Ok(Self(text.to_owned())),
        }
    }

    /// Returns the text of the label.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_is_one_line_of_text() {
        assert_eq!(Label::parse(" the login fix ").map(|l| l.0), Ok("the login fix".to_owned()));
        assert_eq!(Label::parse("  "), Err(IdError::Empty));
        assert_eq!(Label::parse("a\nb"), Err(IdError::BadCharacter('\n')));
        assert_eq!(Label::parse("a\u{1b}[31m"), Err(IdError::BadCharacter('\u{1b}')));
        assert_eq!(Label::parse(&"é".repeat(101)), Err(IdError::TooLong(202, 200)));
        assert!(Label::parse(&"é".repeat(100)).is_ok());
    }
}
