//! Compiles the schemas with a compiler written in Rust, so that no protoc is needed.

use std::{env, fs, path::PathBuf};

use prost::Message as _;

const SCHEMAS: [&str; 4] = [
    "goim/protocol/protocol.proto",
    "goim/comet/comet.proto",
    "goim/logic/logic.proto",
    "comet/v1/comet.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(SCHEMAS, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_transport(false)
        // Bodies are shared, not copied: one buffer from the socket to every channel.
        .bytes(".goim.protocol.Proto.body")
        .bytes(".goim.logic.PushMsg.msg")
        .bytes(".goim.logic.ConnectReq.token")
        .bytes(".comet.v1.Message.body")
        .compile_fds(descriptors)?;
    Ok(())
}
