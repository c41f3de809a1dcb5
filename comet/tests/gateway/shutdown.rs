//! The end of a comet, as its clients and logic see it.

use std::sync::Arc;

use common::config::Human;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::{
    subscription::{ask_behind_tls, login, poll},
    support::{Client, DOORS, Door, FakeLogic, Gateway, Told, config, token, until, within},
};

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

#[tokio::test]
async fn a_last_answer_is_repeated_until_its_client_says_that_it_has_it() {
    let logic = FakeLogic::start();
    let mut config = config(&[logic.addr]);
    // More than the test's patience: the end waits for the acknowledgement, and no longer.
    config.protocol.close_timeout = Human::secs(60);
    let gateway = Gateway::start(&config).await;
    let addr = gateway.comet.http_addrs()[0];
    let first = poll(addr, &login("a")).await;
    let session = first["session"].as_str().unwrap();
    let next = format!("s={session}&ack={}", first["ack"]);
    let metrics = Arc::clone(gateway.comet.metrics());
    let stopping = tokio::spawn(gateway.stop());
    until(|| metrics.drained.get() == 1).await;
    let last = poll(addr, &next).await;
    let words = last["messages"][0]["body"].as_str().unwrap();
    assert!(words.contains("going_away"), "{last}");
    // It was lost on its way.
    assert_eq!(poll(addr, &next).await, last);
    let over = poll(addr, &format!("s={session}&ack={}", last["ack"])).await;
    assert_eq!(over["messages"], json!([]));
    within(stopping).await.unwrap();
    assert_eq!(metrics.closes("going_away").get(), 1);
}

#[tokio::test]
async fn behind_tls_clients_come_to_hear_of_the_end_as_long_as_the_doors_are_open() {
    let logic = FakeLogic::start();
    let mut config = config(&[logic.addr]);
    config.protocol.close_timeout = Human::secs(60);
    let gateway = Gateway::start(&config).await;
    let addr = gateway.addr(Door::Wss);
    let late = [Door::TcpTls, Door::Wss].map(|door| (door, gateway.addr(door)));
    let (_, first) = ask_behind_tls(addr, &login("away"), "", "\"messages\":").await;
    let first: Value = serde_json::from_str(first.split_once("\r\n\r\n").unwrap().1).unwrap();
    let session = first["session"].as_str().unwrap();
    let metrics = Arc::clone(gateway.comet.metrics());
    let stopping = tokio::spawn(gateway.stop());
    until(|| metrics.drained.get() == 1).await;
    for (door, addr) in late {
        let mut client = Client::to(door, addr).await;
        if door.is_websocket() {
            client.upgrade().await;
        }
        client.auth(&token("late", "")).await;
        client.ends_with("going_away", 1001).await;
    }
    let next = format!("s={session}&ack={}", first["ack"]);
    let (_, last) = ask_behind_tls(addr, &next, "", "going_away").await;
    let last: Value = serde_json::from_str(last.split_once("\r\n\r\n").unwrap().1).unwrap();
    let got = format!("s={session}&ack={}", last["ack"]);
    ask_behind_tls(addr, &got, "", r#""messages":[]"#).await;
    within(stopping).await.unwrap();
}
