//! TorchScript archives: the zip, its pickle, its program and the trace. Members are mutated inside of the zip.

#![no_main]

use std::io::Cursor;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let options = tidegate_torchscript::Options::default();
    let _ = tidegate_torchscript::convert(Cursor::new(bytes), &options);
});

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    tidegate_fuzz::members::mutate(&mut data[..max_size], size, seed, libfuzzer_sys::fuzzer_mutate)
});
