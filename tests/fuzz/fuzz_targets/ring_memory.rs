#![no_main]

#[path = "../bodies/ring_memory.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
