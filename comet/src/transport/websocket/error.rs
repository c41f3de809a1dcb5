//! What a client may get wrong in its frames.

use thiserror::Error;

/// A violation of RFC 6455 or of a limit: the client is at fault, and its connection ends with
/// [`close_code`](Self::close_code).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WebSocketError {
    /// A client's frame without a mask (section 5.1).
    #[error("a frame is not masked")]
    Unmasked,
    /// A reserved bit, though no extension was agreed on (section 5.2).
    #[error("a frame has a reserved bit set")]
    ReservedBits,
    /// An opcode that the protocol has no meaning for (section 5.2).
    #[error("opcode {0} is unknown")]
    UnknownOpcode(u8),
    /// A control frame of more than 125 bytes (section 5.5).
    #[error("a control frame announces {0} bytes, over 125")]
    ControlTooLong(u64),
    /// A control frame that is not final (section 5.5).
    #[error("a control frame is fragmented")]
    ControlFragmented,
    /// A continuation frame while there is nothing to continue (section 5.4).
    #[error("a continuation of no message")]
    UnexpectedContinuation,
    /// A new message before the last one ended (section 5.4).
    #[error("a new message within a fragmented one")]
    ExpectedContinuation,
    /// A message longer than this side takes, as announced.
    #[error("a message of {len} bytes or more is over the limit of {max}")]
    TooBig {
        /// Bytes that have come and bytes that the frame announces.
        len: u64,
        /// The limit in bytes.
        max: usize,
    },
    /// More fragments than one message may have, or more empty ones.
    #[error("a message has too many fragments")]
    TooManyFragments,
    /// A text message that is not UTF-8 (section 8.1).
    #[error("a text message is not UTF-8")]
    InvalidUtf8,
    /// A Close frame of one byte, which cannot hold a code (section 5.5.1).
    #[error("a Close frame of one byte")]
    BadClose,
    /// A code that a Close frame must not carry (section 7.4).
    #[error("close code {0} is not allowed")]
    BadCloseCode(u16),
    /// A Close frame's reason that is not UTF-8 (section 5.5.1).
    #[error("the reason of a Close frame is not UTF-8")]
    BadCloseReason,
}

impl WebSocketError {
    /// The code that tells the client (section 7.4.1).
    pub const fn close_code(&self) -> u16 {
        match self {
            Self::InvalidUtf8 | Self::BadCloseReason => 1007,
            Self::TooManyFragments => 1008,
            Self::TooBig { .. } => 1009,
            _ => 1002,
        }
    }

    /// The name for metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Unmasked => "unmasked",
            Self::ReservedBits => "reserved_bits",
            Self::UnknownOpcode(_) => "unknown_opcode",
            Self::ControlTooLong(_) => "control_too_long",
            Self::ControlFragmented => "control_fragmented",
            Self::UnexpectedContinuation => "unexpected_continuation",
            Self::ExpectedContinuation => "expected_continuation",
            Self::TooBig { .. } => "too_big",
            Self::TooManyFragments => "too_many_fragments",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::BadClose => "bad_close",
            Self::BadCloseCode(_) => "bad_close_code",
            Self::BadCloseReason => "bad_close_reason",
        }
    }
}
