//! Clients behind every door, told apart by nothing but how they come in.

use std::{collections::VecDeque, net::SocketAddr};

use protocol::op;
use serde_json::Value;
use standalone::Config;

use super::{
    Client, Door, Server,
    subscription::{Events, Poller, encoded, get, send, texts},
    token,
    tunnel::Certificate,
    within,
};

/// A way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entrance {
    pub kind: Kind,
    pub is_tls: bool,
}

/// How clients are served there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// goim's frames.
    Frames(Door),
    /// Long polls.
    Polls,
    /// Server-Sent Events.
    Events,
}

/// TCP, WebSocket, long-poll and Server-Sent Events, each without TLS and behind it.
pub const ENTRANCES: [Entrance; 8] = [
    Kind::Frames(Door::Tcp).plain(),
    Kind::Frames(Door::WebSocket).plain(),
    Kind::Polls.plain(),
    Kind::Events.plain(),
    Kind::Frames(Door::Tcp).behind_tls(),
    Kind::Frames(Door::WebSocket).behind_tls(),
    Kind::Polls.behind_tls(),
    Kind::Events.behind_tls(),
];

/// A server with all of its doors open.
pub struct Doors {
    pub server: Server,
    /// To the TCP door behind TLS, and to the HTTP door.
    tunnels: [SocketAddr; 2],
    /// Its files are looked at as long as the doors are open.
    _certificate: Certificate,
}

/// A client that has logged in.
pub struct Receiver {
    pub entrance: Entrance,
    session: Session,
}

enum Session {
    Frames(Box<Client>),
    /// With what came and is not read.
    Polls(Poller, VecDeque<Value>),
    Events(Events),
}

impl Kind {
    const fn plain(self) -> Entrance {
        Entrance {
            kind: self,
            is_tls: false,
        }
    }

    const fn behind_tls(self) -> Entrance {
        Entrance {
            kind: self,
            is_tls: true,
        }
    }
}

impl Doors {
    /// Opens them.
    pub async fn open() -> Self {
        Self::open_with(|_| {}).await
    }

    /// With a configuration of its own.
    pub async fn open_with(change: impl FnOnce(&mut Config)) -> Self {
        let certificate = Certificate::new();
        let server = Server::start_with(|config| {
            certificate.open_doors(&mut config.comet);
            change(config);
        })
        .await;
        let comet = &server.standalone.comet;
        let tunnels = [
            certificate.tunnel(comet.tcp_tls_addrs()[0]),
            certificate.tunnel(comet.https_addrs()[0]),
        ];
        Self {
            server,
            tunnels,
            _certificate: certificate,
        }
    }

    /// Where clients connect to.
    pub fn addr(&self, entrance: Entrance) -> SocketAddr {
        let [tcp, http] = self.tunnels;
        match (entrance.kind, entrance.is_tls) {
            (Kind::Frames(Door::Tcp), true) => tcp,
            (_, true) => http,
            (Kind::Frames(door), false) => self.server.door(door),
            (_, false) => self.server.door(Door::WebSocket),
        }
    }

    /// Logs in, with the text of a token.
    pub async fn login(&self, entrance: Entrance, token: &str) -> Receiver {
        let addr = self.addr(entrance);
        let session = match entrance.kind {
            Kind::Frames(door) => {
                let mut client = Box::new(Client::open(addr, door, None).await);
                let reply = client.request(op::AUTH, token.as_bytes()).await;
                assert_eq!(reply.op, op::AUTH_REPLY, "{entrance:?}");
                Session::Frames(client)
            }
            Kind::Polls => Session::Polls(Poller::login_at(addr, token).await, VecDeque::new()),
            Kind::Events => Session::Events(Events::login_at(addr, token).await),
        };
        Receiver { entrance, session }
    }

    /// A client behind each door, in one room: the first is the user 1 with the key `1`, and so on.
    pub async fn one_behind_each(&self, room: &str) -> Vec<Receiver> {
        let mut receivers = Vec::new();
        for (mid, entrance) in (1..).zip(ENTRANCES) {
            let token = token(mid, &mid.to_string(), room).to_json();
            receivers.push(self.login(entrance, &token).await);
        }
        receivers
    }

    /// What a client is told whose token is not taken.
    pub async fn refused(&self, entrance: Entrance, token: &str) -> String {
        let addr = self.addr(entrance);
        let refusal = match entrance.kind {
            Kind::Frames(door) => {
                let mut client = Client::open(addr, door, None).await;
                client.send(op::AUTH, 1, token.as_bytes()).await;
                let farewell = client.ended().await;
                farewell.is("auth_refused", 1008, door);
                return farewell.message;
            }
            Kind::Polls => get(addr, &format!("s=&t={}", encoded(token))).await,
            Kind::Events => {
                let query = format!("t={}", encoded(token));
                let opening = Events::open(addr, &query, "").await;
                opening.expect_err("a stream for a stranger")
            }
        };
        assert_eq!(refusal.status, 403, "{entrance:?}: {refusal:?}");
        let json: Value = serde_json::from_str(&refusal.body).unwrap();
        assert_eq!(json["code"], -403, "{entrance:?}: {refusal:?}");
        json["message"].as_str().unwrap().to_owned()
    }

    /// goim's HTTP API.
    pub fn push_api(&self) -> SocketAddr {
        self.server.push_api()
    }
}

impl Receiver {
    /// The next message: its operation and text.
    pub async fn message(&mut self) -> (i64, String) {
        let message = match &mut self.session {
            Session::Frames(client) => {
                let (op, text) = client.message().await;
                return (op.into(), text);
            }
            Session::Polls(poller, waiting) => polled(poller, waiting).await,
            Session::Events(events) => next_event(events).await,
        };
        let [(op, text)] = texts(std::slice::from_ref(&message))[..] else {
            unreachable!()
        };
        (op, text.to_owned())
    }

    /// Shows that nothing has come that was not read.
    pub async fn has_nothing(&mut self) {
        const SEQ: i32 = 4711;
        let entrance = self.entrance;
        let (sent, next) = match &mut self.session {
            Session::Frames(client) => return client.has_nothing().await,
            Session::Polls(poller, waiting) => {
                let sent = poller.send(op::HEARTBEAT, SEQ, b"").await;
                (sent, polled(poller, waiting).await)
            }
            Session::Events(events) => {
                let (addr, session) = (events.addr, events.session().to_owned());
                let sent = send(addr, &session, op::HEARTBEAT, SEQ, b"").await;
                (sent, next_event(events).await)
            }
        };
        assert_eq!(sent.verdict(), (0, String::new()), "{entrance:?}");
        let answer = (&next["op"], &next["seq"]);
        let expected = (&op::HEARTBEAT_REPLY.into(), &SEQ.into());
        assert_eq!(answer, expected, "{entrance:?}");
    }

    /// Raw headers that came; never any but over WebSocket.
    pub fn raws(&self) -> usize {
        match &self.session {
            Session::Frames(client) => client.raws(),
            Session::Polls(..) | Session::Events(_) => 0,
        }
    }
}

/// The next message of a session that is polled, whose empty answers go on for ever.
async fn polled(poller: &mut Poller, waiting: &mut VecDeque<Value>) -> Value {
    within("a message by a poll", async {
        loop {
            if let Some(message) = waiting.pop_front() {
                return message;
            }
            waiting.extend(poller.poll().await);
        }
    })
    .await
}

/// The next message of a stream, whose signs of life go on for ever.
async fn next_event(events: &mut Events) -> Value {
    within("a message by an event", events.message()).await.data
}
