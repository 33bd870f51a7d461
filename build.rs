//! Compiles `proto/` with protox, a protobuf compiler in pure Rust: no `protoc` is needed.

use std::{env, error::Error, fs, path::PathBuf};

const FILES: [&str; 3] = [
    "userpilot_gateway/v1/types.proto",
    "userpilot_gateway/v1/ingest.proto",
    "userpilot_gateway/v1/admin.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true);
    compiler.open_files(FILES)?;

    // Server reflection serves the descriptors, comments and all.
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;

    tonic_prost_build::configure().compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
