//! One message to everyone, over several comets at once.

use std::net::SocketAddr;

use bytes::{BufMut as _, BytesMut};
use protocol::grpc::goim::{
    comet::{BroadcastReq, comet_client::CometClient},
    protocol::Proto,
};
use tokio::task::JoinSet;
use tonic::{Status, transport::Channel};

use crate::{DATA, MARK_LEN, doors::Mark, measure};

/// Bytes of its body.
pub const BODY: usize = 32;

/// What became of it.
#[derive(Debug)]
pub struct Sent {
    /// When, by [`measure::now`].
    pub at: u64,
    /// The comets that refused it, by their places, and why.
    pub refused: Vec<(usize, Status)>,
}

/// Connects to each comet, then calls all of them at the same moment. Must be called on a `LocalSet`.
pub async fn broadcast(comets: &[SocketAddr]) -> anyhow::Result<Sent> {
    let mut channels = Vec::new();
    for comet in comets {
        channels.push(super::connect(*comet).await?);
    }
    let at = measure::now();
    let mut calls = JoinSet::new();
    for (place, channel) in channels.into_iter().enumerate() {
        calls.spawn_local(async move { (place, call(channel, at).await) });
    }
    let answers = calls.join_all().await;
    let refused = |(place, answer): (usize, Result<(), Status>)| Some((place, answer.err()?));
    Ok(Sent {
        at,
        refused: answers.into_iter().filter_map(refused).collect(),
    })
}

async fn call(channel: Channel, sent: u64) -> Result<(), Status> {
    let mark = Mark {
        group: 0,
        index: 0,
        sent,
    };
    let mut body = BytesMut::with_capacity(BODY);
    body.put_slice(&mark.to_bytes());
    body.resize(BODY.max(MARK_LEN), b'.');
    let proto = Proto {
        ver: 1,
        op: DATA,
        seq: 0,
        body: body.freeze(),
    };
    let request = BroadcastReq {
        proto_op: DATA,
        proto: Some(proto),
        speed: 0,
    };
    CometClient::new(channel).broadcast(request).await?;
    Ok(())
}
