//! Every sample event through `wincode` and through `bincode`: the same bytes, in both directions.

use serde::{Deserialize, Serialize};

use crate::codec;
use crate::testing::samples::samples;
use crate::testing::wincode::failed::{Failed, failed};
use crate::testing::wincode::reader::Reader;
use crate::testing::wincode::writer::Writer;
use groundskeeper_core::event::{self, Event};
use groundskeeper_core::for_each_event;

fn written(payload: &impl Serialize) -> Result<Vec<u8>, Failed> {
    let mut writer = Writer::default();
    payload.serialize(&mut writer)?;
    Ok(writer.0)
}

fn read<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, Failed> {
    let mut reader = Reader(bytes);
    let value = T::deserialize(&mut reader)?;
    if reader.0.is_empty() { Ok(value) } else { Err(failed("bytes are left over")) }
}

macro_rules! by_kind {
    ($($kind:ident = $number:literal, $version:literal;)*) => {
        /// Returns the payload of an event as the bridge writes it.
        fn payload(event: &Event) -> Result<Vec<u8>, Failed> {
            match event {
                $(Event::$kind(payload) => written(payload),)*
                Event::Opaque(_) => Err(failed("an unknown event has no schema")),
            }
        }

        /// Reads the payload of an event of the same kind as `like`.
        fn decode(like: &Event, bytes: &[u8]) -> Result<Event, Failed> {
            match like {
                $(Event::$kind(_) => read::<event::$kind>(bytes).map(Event::$kind),)*
                Event::Opaque(_) => Err(failed("an unknown event has no schema")),
            }
        }
    };
}
for_each_event!(by_kind);

/// The samples cover every kind and set every field; another test holds that.
#[test]
fn wincode_reads_and_writes_bytes_of_bincode() {
    for event in samples() {
        let kind = event.kind();
        let bytes = codec::payload(&event).expect("encoded");
        assert_eq!(payload(&event).as_ref(), Ok(&bytes), "{kind} is written as bincode does");
        assert_eq!(decode(&event, &bytes).as_ref(), Ok(&event), "{kind} is read as bincode does");
    }
}

/// Neither side reads bytes that the other side refuses: cut ones, and ones with a rest.
#[test]
fn wincode_refuses_damaged_payloads() {
    for event in samples() {
        let bytes = codec::payload(&event).expect("encoded");
        for end in 0..bytes.len() {
            assert!(decode(&event, &bytes[..end]).is_err(), "{}: {end}", event.kind());
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert!(decode(&event, &longer).is_err(), "{}", event.kind());
    }
}
