//! Envelopes: bytes are refused, or are what sealing their content gives. It checks no payload.
#![no_main]

use groundskeeper_journal::envelope;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((key, bytes)) = data.split_first_chunk::<8>() else { return };
    if let Ok(sealed) = envelope::open(u64::from_le_bytes(*key), bytes) {
        let (again, _) = envelope::seal(&sealed);
        // Two bytes are reserved: a later program may give them a meaning.
        if bytes[42..44] == [0; 2] {
            assert_eq!(again, bytes, "an envelope is sealed to the same bytes");
        }
    }
});
