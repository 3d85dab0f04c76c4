//! Texts in JSON that are empty where the state has none.

use serde::Serializer;

/// Serialises a text, or an empty one for none.
#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
pub(crate) fn or_empty<T: AsRef<str>, S: Serializer>(
    text: &Option<T>,
    s: S,
) -> Result<S::Ok, S::Error> {
    s.serialize_str(text.as_ref().map_or("", AsRef::as_ref))
}
