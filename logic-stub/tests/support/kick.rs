//! Two comets that are told to close connections.

use common::config::Human;
use logic_stub::Config;
use protocol::grpc::comet::v1::Cause;
use serde_json::json;

use super::{
    Running, config, connection,
    lane::{Kick, LaneComet},
    start,
};

/// Names and epochs of the [`two_comets`].
pub const A: (&str, u64) = ("a", 100);
pub const B: (&str, u64) = ("b", 200);

/// Two comets, which started at 100 and 200.
pub async fn two_comets(config: Config) -> (Running, LaneComet, LaneComet) {
    let logic = start(config);
    let (a, b) = (LaneComet::start().await, LaneComet::start().await);
    logic.renew("a", Some(a.info(100)), &[]).await.unwrap();
    logic.renew("b", Some(b.info(200)), &[]).await.unwrap();
    (logic, a, b)
}

/// Time limits that a busy machine keeps, and that no test waits for.
pub fn patient() -> Config {
    let mut config = config();
    config.kick.timeout = Human::secs(60);
    config.kick.retry = Human::secs(60);
    config.kick.settle = Human::secs(60);
    config
}

pub async fn log_in(logic: &Running, comet: (&str, u64), id: u64, mid: i64, key: &str) {
    let token = json!({"mid": mid, "key": key, "platform": "ios"}).to_string();
    let (server, epoch) = comet;
    let reply = logic.connect_as(server, &token, connection(epoch, id));
    reply.await.unwrap();
}

pub fn is_for(kick: &Kick, cause: Cause, connections: &[(&str, u64, u64)]) {
    assert_eq!(kick.request.cause, i32::from(cause));
    assert_eq!(kick.connections(), connections);
}
