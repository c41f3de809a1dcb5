//! goim's calls, for a comet that lacks `comet.v1`.
//!
//! What waits is served in rounds: several calls at once, but never two for one room or one key, and what waits for one room
//! in one call. So the order of each room and each key is kept. Such a comet does not skip what it has taken, so nothing is
//! sent twice: a call that ended without an answer is counted as lost.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    error::Error as _,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use common::bearer::Credential;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use protocol::{
    RoomId,
    grpc::goim::{
        comet::{BroadcastReq, BroadcastRoomReq, PushMsgReq, comet_client::CometClient},
        protocol::Proto,
    },
    op,
};
use tonic::{Code, ConnectError, Status, transport::Channel};

use super::{
    queue::Item,
    report::{Loss, Outcome},
    task::{Failure, Held, Shared},
};
use crate::{config, push::Target};

/// One call and the messages that it carries, by their places.
#[derive(Debug)]
struct Call {
    items: Vec<usize>,
    request: Request,
}

#[derive(Debug)]
enum Request {
    Keys(PushMsgReq),
    Room(BroadcastRoomReq),
    Everyone(BroadcastReq),
}

/// Sends what comes, until the comet cannot be reached.
pub(super) async fn serve(
    lane: &Shared,
    channel: Channel,
    held: &mut Held,
    progress: &mut bool,
) -> Failure {
    let max = lane.setup.client.max_message;
    let client = CometClient::new(channel)
        .max_decoding_message_size(max)
        .max_encoding_message_size(max);
    loop {
        lane.take(held);
        if held.items.is_empty() {
            lane.queue.waiting().await;
            continue;
        }
        if let Err(failure) = round(lane, &client, held, progress).await {
            return failure;
        }
    }
}

/// Serves some of what is held, and keeps what has to wait for it.
async fn round(
    lane: &Shared,
    client: &CometClient<Channel>,
    held: &mut Held,
    progress: &mut bool,
) -> Result<(), Failure> {
    let limit = lane.setup.client.timeout.get();
    let calls = plan(held.items.make_contiguous(), &lane.setup.config);
    let mut under_way: FuturesUnordered<_> = calls
        .into_iter()
        .map(|Call { items, request }| {
            lane.setup.metrics.batch(items.len());
            let answer = call(client.clone(), &lane.setup.credential, request, limit);
            async { (items, answer.await) }
        })
        .collect();
    let mut ended: HashMap<usize, Outcome> = HashMap::new();
    let mut outcome = Ok(());
    while let Some((items, answer)) = under_way.next().await {
        let end = match answer {
            Ok(()) => Outcome::Uncounted,
            // It was not even sent: it stays.
            Err(status) if is_connect(&status) => {
                outcome = Err(Failure::Status(status));
                continue;
            }
            Err(status) => {
                let comet = &lane.name;
                tracing::warn!(%comet, code = ?status.code(), message = status.message(), "a comet did not take a push");
                Outcome::Lost(loss(&status))
            }
        };
        *progress = true;
        ended.extend(items.into_iter().map(|item| (item, end.clone())));
    }
    drop(under_way);
    let items = std::mem::take(&mut held.items);
    for (place, item) in items.into_iter().enumerate() {
        match ended.remove(&place) {
            Some(end) => lane.settle(item, end),
            None => held.items.push_back(item),
        }
    }
    outcome
}

async fn call(
    mut client: CometClient<Channel>,
    credential: &Credential,
    request: Request,
    limit: Duration,
) -> Result<(), Status> {
    let answer = async {
        match request {
            Request::Keys(keys) => client.push_msg(credential.request(keys)).await.map(drop),
            Request::Room(room) => client
                .broadcast_room(credential.request(room))
                .await
                .map(drop),
            Request::Everyone(all) => client.broadcast(credential.request(all)).await.map(drop),
        }
    };
    match tokio::time::timeout(limit, answer).await {
        Ok(answered) => answered,
        Err(_) => Err(Status::deadline_exceeded(format!(
            "no answer within {limit:?}"
        ))),
    }
}

/// Calls that may be under way together, of messages that may overtake those which are left out.
fn plan(items: &[Item], config: &config::Lanes) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let mut rooms: HashMap<&RoomId, Merge> = HashMap::new();
    let mut keys: HashSet<&str> = HashSet::new();
    let mut everyone = false;
    for (place, item) in items.iter().enumerate() {
        let has_room = calls.len() < config.calls;
        match &item.target {
            Target::Room(room) => match rooms.entry(room) {
                Entry::Occupied(mut merge) => {
                    if merge.get_mut().takes(item, config) {
                        let call = merge.get().call;
                        calls[call].items.push(place);
                    }
                }
                Entry::Vacant(merge) if has_room => {
                    merge.insert(Merge::new(calls.len(), item));
                    calls.push(Call::new(place, room_request(room)));
                }
                Entry::Vacant(merge) => drop(merge.insert(Merge::closed())),
            },
            Target::Keys(wanted) => {
                let free = wanted.iter().all(|key| !keys.contains(key.as_str()));
                keys.extend(wanted.iter().map(String::as_str));
                if free && has_room {
                    calls.push(Call::new(place, keys_request(wanted, item)));
                }
            }
            Target::Everyone { speed } => {
                if !everyone && has_room {
                    calls.push(Call::new(place, everyone_request(*speed, item)));
                }
                everyone = true;
            }
        }
    }
    for call in &mut calls {
        if let Request::Room(request) = &mut call.request {
            request.proto = Some(raw(merged(items, &call.items)));
        }
    }
    calls
}

/// What goes to one room in one call.
struct Merge {
    call: usize,
    messages: usize,
    bytes: usize,
    open: bool,
}

impl Merge {
    fn new(call: usize, item: &Item) -> Self {
        Self {
            call,
            messages: 1,
            bytes: item.bytes,
            open: true,
        }
    }

    /// For a room that waits for the next round.
    fn closed() -> Self {
        Self {
            call: 0,
            messages: 0,
            bytes: 0,
            open: false,
        }
    }

    /// Whether this message goes along. After one that does not, none does.
    fn takes(&mut self, item: &Item, config: &config::Lanes) -> bool {
        self.messages += 1;
        self.bytes += item.bytes;
        self.open &= self.messages <= config.merge && self.bytes <= config.batch_bytes;
        self.open
    }
}

impl Call {
    fn new(place: usize, request: Request) -> Self {
        Self {
            items: vec![place],
            request,
        }
    }
}

fn keys_request(keys: &[String], item: &Item) -> Request {
    Request::Keys(PushMsgReq {
        keys: keys.to_vec(),
        proto: Some(raw(item.message.frame())),
        proto_op: item.message.operation,
    })
}

/// Its proto is put in when it is known what goes along.
fn room_request(room: &RoomId) -> Request {
    Request::Room(BroadcastRoomReq {
        room_id: room.as_str().to_owned(),
        proto: None,
    })
}

fn everyone_request(speed: i32, item: &Item) -> Request {
    Request::Everyone(BroadcastReq {
        proto_op: item.message.operation,
        proto: Some(raw(item.message.frame())),
        speed,
    })
}

/// As goim's job sends it: the frames for the client inside of a Raw.
fn raw(frames: Bytes) -> Proto {
    Proto {
        ver: 1,
        op: op::RAW,
        seq: 0,
        body: frames,
    }
}

fn merged(items: &[Item], places: &[usize]) -> Bytes {
    let frame = |&place: &usize| items[place].message.frame();
    if let [one] = places {
        return frame(one);
    }
    let mut frames = BytesMut::new();
    for place in places {
        frames.extend_from_slice(&frame(place));
    }
    frames.freeze()
}

fn is_connect(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// What a call without success means.
fn loss(status: &Status) -> Loss {
    let unanswered = matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown
    );
    match status.code() {
        Code::ResourceExhausted => Loss::Busy,
        _ if unanswered || status.source().is_some() => Loss::Unconfirmed,
        _ => Loss::Refused,
    }
}
