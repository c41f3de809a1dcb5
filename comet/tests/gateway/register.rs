//! Sessions that logic has lost are registered again, and the clients notice nothing.

use std::{collections::BTreeSet, sync::atomic::Ordering};

use crate::support::{DOORS, FakeLogic, Gateway, Told, config, within};

#[tokio::test]
async fn a_new_store_gets_all_sessions_again() {
    for door in DOORS {
        let mut logic = FakeLogic::start();
        logic.generation.store(7, Ordering::SeqCst);
        let gateway = Gateway::start(&config(&[logic.addr])).await;
        logic.renewed().await;
        let mut clients = Vec::new();
        for number in 0..100 {
            clients.push(gateway.online(door, &format!("key-{number}"), "").await);
        }
        drop(clients.pop());
        assert_eq!(logic.told_disconnect().await.key, "key-99");

        logic.generation.store(8, Ordering::SeqCst);
        let mut again = BTreeSet::new();
        while again.len() < clients.len() {
            if let Told::Heartbeat(told) = within(logic.told()).await {
                assert!(told.connection.is_some_and(|connection| connection.id > 0));
                assert!(again.insert(told.key), "once each");
            }
        }
        assert!(!again.contains("key-99"));
        for (seq, client) in (1..).zip(&mut clients) {
            client.heartbeat(seq).await;
        }
    }
}

#[tokio::test]
async fn a_logic_that_names_no_generation_has_lost_nothing() {
    let mut logic = FakeLogic::start();
    let gateway = Gateway::start(&config(&[logic.addr])).await;
    logic.renewed().await;
    let client = gateway.online(DOORS[0], "a", "").await;
    logic.renewed().await;
    logic.renewed().await;
    drop(client);
    logic.told_connect().await;
    // The next that logic is told is the goodbye.
    assert!(matches!(within(logic.told()).await, Told::Disconnect(_)));
}
