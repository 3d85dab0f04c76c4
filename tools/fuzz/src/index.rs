//! Git indexes of both hash kinds: any bytes are read or refused, and none beyond their end.
#![no_main]

use groundskeeper::world::parsers;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| parsers::index(data));
