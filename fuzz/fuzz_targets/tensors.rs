//! Every way in which a tensor comes from outside. With `-malloc_limit_mb=64 -max_len=65536`, taking far more memory than a
//! body has is a finding too.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = tidegate_api::decode_tensors(bytes);
});
