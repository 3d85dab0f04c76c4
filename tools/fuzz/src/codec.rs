//! Payloads: an event that can be read is written and read again as the same event. The first bytes
//! choose its kind and version; the rest is the payload.
#![no_main]

use groundskeeper_journal::codec::{self, Decoded};
use groundskeeper_journal::envelope::{self, Envelope};
use groundskeeper_journal::peek;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [kind, version, payload @ ..] = data else { return };
    let kinds = peek::KINDS;
    let name = kinds[usize::from(*kind) % kinds.len()];
    let sealed = Envelope {
        crc: 0,
        version: envelope::VERSION,
        codec: 1,
        flags: 0,
        seq: 1,
        at: 1,
        boot: 1,
        kind: peek::kind_number(name).unwrap_or_default(),
        kind_version: u16::from(*version % 4),
        previous: 0,
        payload,
    };
    let Ok(Decoded::Record(record)) = codec::decode(&sealed) else { return };
    let Ok((bytes, _)) = codec::encode(&record, 0) else { return };
    let Ok(sealed) = envelope::open(1, &bytes) else { panic!("what was written cannot be opened") };
    match codec::decode(&sealed) {
        Ok(Decoded::Record(again)) => assert_eq!(again, record),
        other => panic!("what was written is read as {other:?}"),
    }
});
