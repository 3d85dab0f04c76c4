//! What git status prints: any bytes are read or refused, and nothing is read beyond their end.
#![no_main]

use groundskeeper::world::parsers;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| parsers::status(data));
