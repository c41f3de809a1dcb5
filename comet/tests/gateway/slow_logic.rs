//! Logic that takes its time to answer Receive hurts no client.

use std::{sync::Arc, time::Duration};

use common::config::Human;
use protocol::op;
use tokio::{io::AsyncWriteExt as _, sync::Semaphore};

use crate::support::{DOORS, Door, FakeLogic, Gateway, Got, config, until};

/// A logic that answers Receive when it gets permits.
fn slow(heartbeat: Duration) -> FakeLogic {
    let mut logic = FakeLogic::with(heartbeat);
    logic.kill();
    logic.receives = Arc::new(Semaphore::new(0));
    logic.restart();
    logic
}

const LONG: Duration = Duration::from_mins(10);

#[tokio::test]
async fn heartbeats_and_pings_do_not_wait_for_receive_whose_order_is_kept() {
    let mut logic = slow(LONG);
    let mut config = config(&[logic.addr]);
    config.rpc_client.timeout = Human::secs(60);
    let gateway = Gateway::start(&config).await;
    for door in DOORS {
        let mut client = gateway.online(door, "a", "live://1").await;
        for seq in 1..=3 {
            client
                .send(op::SEND_MSG, seq, &[u8::try_from(seq).unwrap()])
                .await;
        }
        assert_eq!(logic.told_receive().await, (1, vec![1]));
        assert_eq!(client.heartbeat(10).await, 1);
        if door.is_websocket() {
            client.ping(b"there?").await;
            assert_eq!(client.next().await, Got::Pong(b"there?".to_vec()));
        }
        assert_eq!(client.heartbeat(11).await, 1);
        for seq in 1..=3 {
            logic.receives.add_permits(1);
            let (header, body) = client.proto().await;
            assert_eq!((header.op, header.seq, body), (op::SEND_MSG, seq, vec![]));
            if seq < 3 {
                let next = u8::try_from(seq + 1).unwrap();
                assert_eq!(logic.told_receive().await, (seq + 1, vec![next]));
            }
        }
    }
}

#[tokio::test]
async fn a_full_ring_stops_the_reading_and_each_answer_lets_it_go_on() {
    const RING: u64 = 4;
    const ALL: u64 = 10;
    let logic = slow(LONG);
    let mut config = config(&[logic.addr]);
    config.rpc_client.timeout = Human::secs(60);
    config.protocol.cli_proto = usize::try_from(RING).unwrap();
    for door in DOORS {
        let gateway = Gateway::start(&config).await;
        let mut client = gateway.online(door, "a", "").await;
        let mut protos = Vec::new();
        for seq in 1..=10 {
            let header = protocol::Header {
                ver: 1,
                op: op::SEND_MSG,
                seq,
            };
            header.encode(b"message", &mut protos);
        }
        protocol::Header {
            ver: 1,
            op: op::HEARTBEAT,
            seq: 11,
        }
        .encode(b"", &mut protos);
        let bytes = client.wrap(&protos);
        client.socket.write_all(&bytes).await.unwrap();
        let read = gateway.comet.metrics().protos_in(op::SEND_MSG);
        for answered in 0..ALL {
            // As many are read as may be owed, and not one more: the next answer is that of the next message.
            let may = ALL.min(answered + RING);
            until(|| read.get() >= may).await;
            assert_eq!(read.get(), may);
            if answered + RING < ALL {
                assert_eq!(gateway.comet.metrics().protos_in(op::HEARTBEAT).get(), 0);
            }
            logic.receives.add_permits(1);
            let (mut header, _) = client.proto().await;
            if header.op == op::HEARTBEAT_REPLY {
                assert!(answered + RING > ALL);
                (header, _) = client.proto().await;
            }
            assert_eq!(
                (header.op, u64::from(header.seq.cast_unsigned())),
                (op::SEND_MSG, answered + 1)
            );
        }
        until(|| gateway.comet.metrics().protos_in(op::HEARTBEAT).get() == 1).await;
    }
}

#[tokio::test]
async fn a_client_that_we_do_not_read_is_not_called_silent() {
    const SILENCE: Duration = Duration::from_secs(1);
    let logic = slow(SILENCE);
    let mut config = config(&[logic.addr]);
    config.rpc_client.timeout = Human::secs(60);
    config.protocol.cli_proto = 1;
    config.protocol.sweep = Human::millis(100);
    let gateway = Gateway::start(&config).await;
    for door in DOORS {
        let mut client = gateway.online(door, "a", "").await;
        client.send(op::SEND_MSG, 1, b"").await;
        // Several times as long as the client may be silent; longer would show as much.
        tokio::time::sleep(4 * SILENCE).await;
        logic.receives.add_permits(1);
        let (header, _) = client.proto().await;
        assert_eq!((header.op, header.seq), (op::SEND_MSG, 1));
        // From now on its silence is its own.
        client.ends_with("heartbeat_timeout", 4004).await;
    }
}

#[tokio::test]
async fn a_receive_that_takes_too_long_is_answered_and_counted() {
    let logic = slow(LONG);
    let mut config = config(&[logic.addr]);
    config.rpc_client.timeout = Human::secs(1);
    let gateway = Gateway::start(&config).await;
    let mut client = gateway.online(Door::Tcp, "a", "").await;
    for seq in 1..=2 {
        client.send(op::SEND_MSG, seq, b"").await;
        let (header, _) = client.proto().await;
        assert_eq!((header.op, header.seq), (op::SEND_MSG, seq));
    }
    let timeouts = gateway.comet.metrics().logic_calls("receive", "timeout");
    assert_eq!(timeouts.get(), 2);
}
