//! Deep learning packages (`.dlpk`) that are unpacked. Members are mutated inside of the zip.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().unwrap();
    let package = folder.path().join("package.dlpk");
    std::fs::write(&package, bytes).unwrap();
    let target = folder.path().join("unpacked/here");
    std::fs::create_dir_all(&target).unwrap();
    let _ = tidegate_geo::esri::unpack(&package, &target);
    let beside = std::fs::read_dir(folder.path().join("unpacked")).unwrap().count();
    assert_eq!(beside, 1, "something was unpacked outside of its folder");
});

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    tidegate_fuzz::members::mutate(&mut data[..max_size], size, seed, libfuzzer_sys::fuzzer_mutate)
});
