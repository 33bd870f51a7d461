#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| userpilot_gateway::fuzzing::try_out("config", input));
