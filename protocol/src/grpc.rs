//! The gRPC schemas as code: goim's packages `goim.protocol`, `goim.comet` and `goim.logic`, and this project's
//! `comet.v1`. The `.proto` files under `protocol/proto` document every message and field.
//!
//! Clients are made with `Client::new(channel)`: the `connect` constructor is not generated, since goim's `Connect` rpc
//! has its name.

// Generated code keeps neither our documentation nor our lints.
#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::clone_on_ref_ptr
)]

/// Packages of goim.
pub mod goim {
    /// `goim.protocol`: the frame as a message.
    pub mod protocol {
        tonic::include_proto!("goim.protocol");
    }
    /// `goim.comet`: pushes into a comet.
    pub mod comet {
        tonic::include_proto!("goim.comet");
    }
    /// `goim.logic`: calls from a comet to logic.
    pub mod logic {
        tonic::include_proto!("goim.logic");
    }
}

/// Packages of this project.
pub mod comet {
    /// `comet.v1`: ordered pushes with receipts, and kick.
    pub mod v1 {
        tonic::include_proto!("comet.v1");
    }
}

/// All schemas, encoded as a `FileDescriptorSet`, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
