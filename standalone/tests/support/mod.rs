//! What the scenarios are made of.
//!
//! - [`server`]: both services on free ports; [`process`]: the program itself
//! - [`client`]: a goim client; [`wire`]: its bytes on either door
//! - [`subscription`]: clients of long-poll and Server-Sent Events
//! - [`doors`]: clients behind every door; [`tunnel`]: TLS for clients that speak none
//! - [`script`]: programs in other languages
//! - [`http`]: pushes over goim's HTTP API; [`grpc`]: pushes over goim's and this project's gRPC
//! - [`metrics`]: what a monitor shows

pub mod client;
pub mod doors;
pub mod grpc;
pub mod http;
pub mod metrics;
pub mod process;
pub mod script;
pub mod server;
pub mod subscription;
pub mod tunnel;
pub mod wire;

use std::time::Duration;

pub use client::{Client, Packet, Received, token};
pub use doors::{Doors, ENTRANCES};
pub use grpc::Lane;
pub use server::{SecondComet, Server};
pub use wire::Door;

/// What takes longer has failed. No test is decided by it.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Waits for what must come.
pub async fn within<T>(what: &str, coming: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, coming)
        .await
        .unwrap_or_else(|_| panic!("{what}: nothing came within {PATIENCE:?}"))
}

/// Waits until something that tells nobody, such as a counter, is so.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    within(what, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// Makes a test for each door out of an `async fn(Door)`.
macro_rules! through_both_doors {
    ($($scenario:ident),+ $(,)?) => {
        mod tcp {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $scenario() {
                    super::$scenario($crate::support::Door::Tcp).await;
                }
            )+
        }
        mod websocket {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $scenario() {
                    super::$scenario($crate::support::Door::WebSocket).await;
                }
            )+
        }
    };
}
pub(crate) use through_both_doors;
