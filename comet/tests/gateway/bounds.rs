//! The bounds of the push service.

use protocol::grpc::goim::comet::{RoomsReq, comet_client::CometClient};
use tonic::Code;

use crate::support::{FakeLogic, Gateway, config, within};

#[tokio::test]
async fn one_connection_too_many_is_closed() {
    let logic = FakeLogic::start();
    let mut config = config(&[logic.addr]);
    config.rpc_server.max_connections = 1;
    let gateway = Gateway::start(&config).await;
    let mut first = CometClient::new(gateway.rpc());
    within(first.rooms(RoomsReq {})).await.unwrap();
    let mut second = CometClient::new(gateway.rpc());
    let refused = within(second.rooms(RoomsReq {})).await.unwrap_err();
    assert_ne!(refused.code(), Code::Ok);
    within(first.rooms(RoomsReq {})).await.unwrap();
}
