//! The end of a comet, as its clients and logic see it.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::support::{DOORS, FakeLogic, Gateway, Told, config, token, within};

#[tokio::test]
async fn everyone_is_told_and_logic_too() {
    for door in DOORS {
        let mut logic = FakeLogic::start();
        let gateway = Gateway::start(&config(&[logic.addr])).await;
        let mut online = gateway.online(door, "online", "live://1").await;
        let mut silent = gateway.client(door).await;
        let stopping = tokio::spawn(gateway.stop());
        online.ends_with("going_away", 1001).await;
        silent.ends_with("going_away", 1001).await;
        within(stopping).await.unwrap();
        let told = loop {
            if let Told::Disconnect(told) = within(logic.told()).await {
                break told;
            }
        };
        assert_eq!(told.key, "online");
    }
}

#[tokio::test]
async fn a_login_under_way_is_told_too() {
    for door in DOORS {
        let mut logic = FakeLogic::start();
        logic.kill();
        logic.connects = Arc::new(Semaphore::new(0));
        logic.restart();
        let gateway = Gateway::start(&config(&[logic.addr])).await;
        let mut client = gateway.client(door).await;
        client.auth(&token("late", "")).await;
        logic.told_connect().await;
        let stopping = tokio::spawn(gateway.stop());
        client.ends_with("going_away", 1001).await;
        within(stopping).await.unwrap();
    }
}
