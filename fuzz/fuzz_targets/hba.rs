#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| proxy::auth::hba::fuzz(data));
