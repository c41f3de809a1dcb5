//! Channels against real sockets, and their policies.
