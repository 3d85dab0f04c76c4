//! Facts of a record without decoding it: the name of its kind and its environment.
//!
//! Statistics and filters scan a million records and need two fields of each. The envelope has the
//! kind; the environment is the first field of every payload that has one, in every version, and a
//! test holds that for each kind. Nothing here verifies a checksum.

use super::envelope::Envelope;
use groundskeeper_core::id::ENVIRONMENT_ID_BYTES_MAX;
use groundskeeper_core::{for_each_event, for_each_topic};

macro_rules! names {
    ($($kind:ident = $number:literal, $version:literal;)*) => {
        /// Returns the name of a kind; none when this program does not know it.
        #[must_use]
        pub fn kind_name(number: u32) -> Option<&'static str> {
            match number { $($number => Some(stringify!($kind)),)* _ => None }
        }

        /// Returns the number of a kind by its name, in any case.
        #[must_use]
        pub fn kind_number(name: &str) -> Option<u32> {
            $(if name.eq_ignore_ascii_case(stringify!($kind)) { return Some($number); })*
            None
        }

        /// Names of all kinds, in the order of the catalogue.
        pub const KINDS: &[&str] = &[$(stringify!($kind)),*];
    };
}
for_each_event!(names);

/// Returns whether events about this subject name an environment, in their first field.
macro_rules! names_environment {
    (environment) => {
        true
    };
    (archive) => {
        true
    };
    (output) => {
        true
    };
    (migration) => {
        false
    };
    (host) => {
        false
    };
}

macro_rules! subjects {
    ($($topic:ident($view:ident) of $subject:ident {
        $($kind:ident = $number:literal, $version:literal;)*
    })*) => {
        /// Returns whether payloads of this kind begin with the id of an environment.
        #[must_use]
        #[allow(clippy::manual_range_patterns, reason = "the numbers come from the catalogue")]
        pub fn has_environment(kind: u32) -> bool {
            match kind {
                $($($number => names_environment!($subject),)*)*
                _ => false,
            }
        }
    };
}
for_each_topic!(subjects);

/// Returns the environment of a record, read from the first field of its payload. None when the
/// kind has none or the bytes do not fit.
#[must_use]
pub fn environment<'a>(e: &Envelope<'a>) -> Option<&'a str> {
    if !has_environment(e.kind) {
        return None;
    }
    // A bincode string: its length in 8 bytes, then its bytes. The checksum is not verified, so the
    // length can be anything.
    let length = usize::try_from(u64::from_le_bytes(*e.payload.first_chunk()?)).ok()?;
    if length > ENVIRONMENT_ID_BYTES_MAX {
        return None;
    }
    std::str::from_utf8(e.payload.get(8..8 + length)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::samples::samples;
    use crate::{codec, envelope};
    use groundskeeper_core::event::Record;
    use groundskeeper_core::{Seq, Time};

    #[test]
    fn peek_matches_decode_for_every_kind() {
        for event in samples() {
            let name = event.kind();
            let expected = event.environment().map(|e| e.as_str().to_owned());
            let number = event.kind_number();
            let record = Record { seq: Seq(1), at: Time(1), boot: 1, event };
            let (bytes, _) = codec::encode(&record, 0).expect("encoded");
            let sealed = envelope::open(1, &bytes).expect("whole");
            assert_eq!(environment(&sealed).map(str::to_owned), expected, "{name}");
            assert_eq!(kind_name(number), Some(name));
            assert_eq!(kind_number(&name.to_lowercase()), Some(number));
        }
        assert_eq!(kind_name(9_999), None);
    }
}
