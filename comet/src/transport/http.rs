//! HTTP on one connection, until it is upgraded to WebSocket or ends.
