//! The wire form of optional values that the log and its JSON hold as an empty text or path.
//!
//! Use it as `#[serde(with = "empty_is_none")]`. It holds no rule about what a value means.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Returns the value, or none for an empty one. `Some` of an empty value would be read back as
/// none, so a value that may be empty passes through here before it gets into such a field.
#[must_use]
pub fn non_empty<T: Default + PartialEq>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}

/// Serialises a value, or an empty one for none.
///
/// # Errors
/// Those of the serialiser.
pub fn serialize<T, S>(value: &Option<T>, s: S) -> Result<S::Ok, S::Error>
where
    T: Default + Serialize,
    S: Serializer,
{
    match value {
        Some(value) => value.serialize(s),
        None => T::default().serialize(s),
    }
}

/// Reads a value; none for an empty one.
///
/// # Errors
/// Those of the deserialiser.
pub fn deserialize<'de, T, D>(d: D) -> Result<Option<T>, D::Error>
where
    T: Default + PartialEq + Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(d).map(non_empty)
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json, to_value};

    use super::*;
    use crate::id::HostPath;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sample {
        #[serde(with = "super")]
        text: Option<String>,
        #[serde(with = "super")]
        path: Option<HostPath>,
    }

    #[test]
    fn none_is_an_empty_value_in_both_directions() {
        let cases = [
            (Sample { text: None, path: None }, json!({ "text": "", "path": "" })),
            (
                Sample { text: Some("main".into()), path: Some("/a".into()) },
                json!({ "text": "main", "path": "/a" }),
            ),
        ];
        for (sample, stored) in cases {
            assert_eq!(to_value(&sample).expect("json"), stored);
            assert_eq!(from_value::<Sample>(stored).expect("a sample"), sample);
        }
    }
}
