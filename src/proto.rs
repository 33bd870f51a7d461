//! The generated code of `proto/userpilot_gateway/v1`: messages, clients, servers and the
//! descriptors that server reflection serves.

#![allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    missing_docs,
    unused_qualifications,
    unreachable_pub,
    reason = "generated code follows its generator's style"
)]

tonic::include_proto!("userpilot_gateway.v1");

/// The encoded `FileDescriptorSet`, comments included.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
