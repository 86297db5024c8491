#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| sql::fuzzing::node_tree(data));
