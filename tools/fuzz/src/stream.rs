//! Flat logs: a reader of any bytes ends, with records, an end, or a named damage.
#![no_main]

use groundskeeper_journal::stream_format::{self, Next};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let head = data.get(..stream_format::HEAD_BYTES).unwrap_or_default();
    let _start = stream_format::parse_head(head);
    let mut rest = data.get(stream_format::HEAD_BYTES..).unwrap_or_default();
    let mut buffer = Vec::new();
    for seq in 1.. {
        match stream_format::next(&mut rest, seq, &mut buffer) {
            Ok(Ok(Next::Record)) => {}
            _ => return,
        }
    }
});
