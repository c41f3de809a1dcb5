//! The operations of goim v2. A reply's number is its request's plus one.

/// Reserved.
pub const HANDSHAKE: i32 = 0;
/// Reserved.
pub const HANDSHAKE_REPLY: i32 = 1;
/// Client: I am alive.
pub const HEARTBEAT: i32 = 2;
/// Comet: the room's online count as an i32; 0 without a room.
pub const HEARTBEAT_REPLY: i32 = 3;
/// Client: a message for the application.
pub const SEND_MSG: i32 = 4;
/// Commonly used by pushers for a downstream message.
pub const SEND_MSG_REPLY: i32 = 5;
/// Comet: this connection is about to be closed, with the reason as JSON.
pub const DISCONNECT_REPLY: i32 = 6;
/// Client: the token, as JSON.
pub const AUTH: i32 = 7;
/// Comet: you are logged in. No body.
pub const AUTH_REPLY: i32 = 8;
/// Comet: several frames, concatenated. Over TCP they come without a header around them.
pub const RAW: i32 = 9;
/// goim's internal signal; never on a wire.
pub const PROTO_READY: i32 = 10;
/// goim's internal signal; never on a wire.
pub const PROTO_FINISH: i32 = 11;
/// Client: leave the room and join the one named in the body; an empty body only leaves.
pub const CHANGE_ROOM: i32 = 12;
/// Comet: the request's body.
pub const CHANGE_ROOM_REPLY: i32 = 13;
/// Client: accept these operations too, as decimals: `1000,1001`.
pub const SUB: i32 = 14;
/// Comet: the request's body.
pub const SUB_REPLY: i32 = 15;
/// Client: no longer accept these operations.
pub const UNSUB: i32 = 16;
/// Comet: the request's body.
pub const UNSUB_REPLY: i32 = 17;

/// Bytes of the words that a client who is closed by the service is told in [`DISCONNECT_REPLY`]: they are in a Close frame
/// too, which has 123.
pub const MAX_KICK_REASON: usize = 100;

/// The name of an operation for logs and metrics; those of applications share one.
pub fn name(op: i32) -> &'static str {
    match op {
        HANDSHAKE => "handshake",
        HANDSHAKE_REPLY => "handshake_reply",
        HEARTBEAT => "heartbeat",
        HEARTBEAT_REPLY => "heartbeat_reply",
        SEND_MSG => "send_msg",
        SEND_MSG_REPLY => "send_msg_reply",
        DISCONNECT_REPLY => "disconnect_reply",
        AUTH => "auth",
        AUTH_REPLY => "auth_reply",
        RAW => "raw",
        PROTO_READY => "proto_ready",
        PROTO_FINISH => "proto_finish",
        CHANGE_ROOM => "change_room",
        CHANGE_ROOM_REPLY => "change_room_reply",
        SUB => "sub",
        SUB_REPLY => "sub_reply",
        UNSUB => "unsub",
        UNSUB_REPLY => "unsub_reply",
        _ => "application",
    }
}
