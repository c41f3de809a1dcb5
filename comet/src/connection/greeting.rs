//! From the first byte to AuthReply, under one absolute deadline.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, atomic::AtomicU32},
    time::Duration,
};

use bytes::Bytes;
use protocol::{Header, RoomId, grpc::goim::logic::ConnectReply, op::MAX_KICK_REASON};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout_at},
};

use super::{
    Answers, Login, control,
    meter::{Meter, Pause},
    read,
};
use crate::{
    bucket::{Control, Join},
    channel::{Channel, Turn},
    clock::Tick,
    close::{CloseReason, Farewell},
    gateway::Gateway,
    logic::{CallError, Session},
    session::{Greeted, Greeting},
    transport::intake::{Intake, Parsing},
    whitelist::Step,
};

/// Logs a connection in and registers it in its bucket, which answers its Auth.
pub(super) async fn greet(
    gateway: &Gateway,
    channel: &Arc<Channel>,
    intake: &mut Intake,
    login: Login,
) -> Result<Arc<Session>, Farewell> {
    let (auth, reply) = {
        let asking = pin!(async {
            let (auth, token) = read_auth(gateway, channel, intake).await?;
            let reply = ask(gateway, channel, &login, token).await?;
            Ok::<_, Farewell>((auth, reply))
        });
        in_time(gateway, &login, asking).await?
    };
    enter(gateway, channel, &login, auth, reply).await
}

/// The same for a token that did not come in a frame; the Auth is answered as if it had been of this header.
pub(super) async fn log_in(
    gateway: &Gateway,
    channel: &Arc<Channel>,
    login: &Login,
    auth: Header,
    token: Bytes,
) -> Result<Arc<Session>, Farewell> {
    let reply = {
        let asking = pin!(ask(gateway, channel, login, token));
        in_time(gateway, login, asking).await?
    };
    enter(gateway, channel, login, auth, reply).await
}

/// Asks logic whose token this is.
async fn ask(
    gateway: &Gateway,
    channel: &Channel,
    login: &Login,
    token: Bytes,
) -> Result<ConnectReply, Farewell> {
    // Now, not at accept: of two logins with one key, the later one wins, whichever connection was opened first.
    channel.identify(gateway.next_connection_id());
    let Login {
        door,
        client,
        cookie,
        ..
    } = login;
    let answer = gateway
        .logic
        .connect(channel.id(), *door, *client, cookie, token)
        .await;
    answer.map_err(|error| refuse(&error))
}

/// Keeps the login's deadline, and ends it when this comet stops. The future stays where it is, and is gone before the
/// next step: it is large.
async fn in_time<T>(
    gateway: &Gateway,
    login: &Login,
    asking: Pin<&mut impl Future<Output = Result<T, Farewell>>>,
) -> Result<T, Farewell> {
    let asking = timeout_at(login.deadline, asking);
    let asked = gateway.stopping.run_until_cancelled(asking).await;
    asked
        .ok_or_else(|| gateway.drain.farewell())?
        .map_err(|_| CloseReason::HandshakeTimeout)?
}

/// Registers whom logic knows.
async fn enter(
    gateway: &Gateway,
    channel: &Arc<Channel>,
    login: &Login,
    auth: Header,
    reply: ConnectReply,
) -> Result<Arc<Session>, Farewell> {
    let session = Arc::new(Session {
        mid: reply.mid,
        key: reply.key.as_str().into(),
        id: channel.id(),
        door: login.door,
        client: login.client,
        platform: reply.platform.as_str().into(),
        renew_at: AtomicU32::default(),
    });
    if gateway.channels.whitelist.has(session.mid, &session.key) {
        // From the deadline, so that the future of each login need not hold the time of its beginning.
        let left = login.deadline.saturating_duration_since(Instant::now());
        let ago = gateway
            .protocol
            .handshake_timeout
            .get()
            .saturating_sub(left);
        note_login(channel, &session, &reply, ago);
    }
    let registered = register(gateway, channel, auth, reply, &session).await;
    if registered.is_err() {
        // Logic has a session of it by now.
        gateway.goodbyes.say(Arc::clone(&session));
    }
    registered.map(|()| session)
}

/// Reads until Auth came, no more of a second than of any client. Other frames before it are ignored, and what came behind it stays
/// for later.
async fn read_auth(
    gateway: &Gateway,
    channel: &Channel,
    intake: &mut Intake,
) -> Result<(Header, Bytes), Farewell> {
    let mut greeting = Greeting::new(gateway.protocol.greeting_frames);
    let mut meter = Meter::default();
    if intake.has_rest() {
        let found = intake.feed(&mut [], |parsing| {
            find_auth(gateway, channel, &mut greeting, parsing)
        })?;
        if let Some(auth) = found {
            return Ok(auth);
        }
    }
    loop {
        match poll_fn(|cx| channel.poll_turn(cx, false)).await {
            Turn::Close => return Err(channel.closing().unwrap_or(CloseReason::Internal).into()),
            // An error closes the channel, which the next turn tells.
            Turn::Write => drop(channel.write_waiting()),
            Turn::Read => {
                let came = read(gateway, channel, intake, |parsing| {
                    let found = find_auth(gateway, channel, &mut greeting, parsing)?;
                    let now = gateway.channels.clock.now();
                    let (frames, bytes) = (parsing.frames(), parsing.taken());
                    let pause = meter.note(now, frames, bytes, &gateway.limits);
                    Ok::<_, Farewell>((found, pause))
                })?;
                match came.transpose()? {
                    Some((Some(auth), _)) => return Ok(auth),
                    Some((None, Some(Pause { reason, rest }))) => {
                        gateway.metrics.throttled(reason).inc();
                        sleep(rest).await;
                    }
                    Some((None, None)) | None => {}
                }
            }
        }
    }
}

fn find_auth(
    gateway: &Gateway,
    channel: &Channel,
    greeting: &mut Greeting,
    parsing: &mut Parsing<'_>,
) -> Result<Option<(Header, Bytes)>, Farewell> {
    let mut answers = Answers::default();
    let found = loop {
        match parsing.next(&gateway.intake) {
            Err(reason) => break Err(reason.into()),
            Ok(None) => break Ok(None),
            Ok(Some(event)) => match control(&event, &mut answers) {
                Err(farewell) => break Err(farewell),
                Ok(None) => {}
                Ok(Some((header, body))) => match greeting.on_frame(header, body) {
                    Err(reason) => break Err(reason.into()),
                    Ok(Greeted::Ignored) => {
                        gateway.metrics.ignored("before_auth").inc();
                    }
                    Ok(Greeted::Auth(header, token)) => {
                        break Ok(Some((header, Bytes::copy_from_slice(token))));
                    }
                },
            },
        }
    };
    answers.send(channel);
    found
}

/// Puts a connection into its bucket, and waits until its Auth is answered.
async fn register(
    gateway: &Gateway,
    channel: &Arc<Channel>,
    auth: Header,
    reply: ConnectReply,
    session: &Arc<Session>,
) -> Result<(), Farewell> {
    let (joined, answered) = oneshot::channel();
    let join = admit(gateway, channel, auth, reply, session, joined)?;
    channel.owe();
    let bucket = gateway.buckets.of(&session.key);
    let joining = bucket.control.send(Control::Join(Box::new(join)));
    joining.await.map_err(|_| CloseReason::GoingAway)?;
    // What came behind Auth is not answered before Auth itself.
    answered.await.map_err(|_| CloseReason::GoingAway)?;
    Ok(())
}

/// From here on, the steps of this connection are noted: first how it came in.
#[cold]
fn note_login(channel: &Channel, session: &Session, reply: &ConnectReply, ago: Duration) {
    channel.set_noted(Some((session.mid, &session.key)));
    channel.note(&Step::Accept {
        door: session.door.label(),
        client: session.client,
        ago,
    });
    channel.note(&Step::Auth {
        room: &reply.room_id,
        accepts: &reply.accepts,
    });
}

/// Takes what logic said about a client.
fn admit(
    gateway: &Gateway,
    channel: &Arc<Channel>,
    auth: Header,
    reply: ConnectReply,
    session: &Arc<Session>,
    joined: oneshot::Sender<()>,
) -> Result<Join, Farewell> {
    let ConnectReply {
        room_id,
        accepts,
        heartbeat,
        ..
    } = reply;
    let room = match room_id.as_str() {
        "" => None,
        room => Some(
            RoomId::from_bytes(room.as_bytes(), gateway.protocol.max_room)
                .map_err(|_| CloseReason::BadRoom)?,
        ),
    };
    if accepts.len() > gateway.protocol.max_accepts {
        return Err(CloseReason::TooManyAccepts.into());
    }
    let silence = match u64::try_from(heartbeat) {
        Ok(nanoseconds @ 1..) => Duration::from_nanos(nanoseconds),
        _ => gateway.protocol.heartbeat.get(),
    };
    channel.set_silence(Tick::from(silence));
    channel.hear(gateway.channels.clock.now());
    Ok(Join {
        session: Arc::clone(session),
        channel: Arc::clone(channel),
        room,
        accepts,
        auth,
        joined,
    })
}

/// As much of a text as fits.
fn head(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

fn refuse(error: &CallError) -> Farewell {
    match error {
        CallError::Superseded => CloseReason::Replaced { same_mid: true }.into(),
        CallError::Denied(words) => {
            tracing::debug!(%words, "a login is denied");
            Farewell::with_detail(CloseReason::AuthRefused, head(words, MAX_KICK_REASON))
        }
        CallError::Refused(why) => {
            tracing::debug!(%why, "a login is refused");
            CloseReason::AuthRefused.into()
        }
        CallError::Unavailable(why) => {
            tracing::debug!(%why, "a login cannot be checked");
            CloseReason::LogicUnavailable.into()
        }
    }
}
