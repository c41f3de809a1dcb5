//! Logins whose comet does not wait for the answer.

#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::{sync::Arc, time::Duration};

use logic_stub::{
    LogicStub,
    clock::Clock,
    sessions::{
        Answer, Holder, Lease, LeaseRenewal, MemorySessions, Registration, Renewal, RoomCounts,
        Session, Sessions, memory,
    },
};
use protocol::grpc::goim::logic::{CometInfo, ConnectReq, ConnectionRef, OnlineReq};
use support::{config, start_with, until};
use tonic::Request;

/// A store that registers, and does not say so.
struct Silent(MemorySessions);

impl Sessions for Silent {
    fn generation(&self) -> Answer<'_, u64> {
        self.0.generation()
    }

    fn register<'a>(&'a self, session: &'a Session) -> Answer<'a, Registration> {
        Box::pin(async move {
            self.0.register(session).await?;
            std::future::pending().await
        })
    }

    fn renew<'a>(&'a self, session: &'a Session) -> Answer<'a, Renewal> {
        self.0.renew(session)
    }

    fn remove<'a>(&'a self, session: &'a Session) -> Answer<'a, bool> {
        self.0.remove(session)
    }

    fn holders<'a>(&'a self, keys: &'a [String]) -> Answer<'a, Vec<Option<Holder>>> {
        self.0.holders(keys)
    }

    fn of_mids<'a>(&'a self, mids: &'a [i64]) -> Answer<'a, Vec<Session>> {
        self.0.of_mids(mids)
    }

    fn report_rooms<'a>(
        &'a self,
        server: &'a str,
        epoch: Option<u64>,
        counts: RoomCounts,
    ) -> Answer<'a, ()> {
        self.0.report_rooms(server, epoch, counts)
    }

    fn room_counts(&self) -> Answer<'_, Arc<RoomCounts>> {
        self.0.room_counts()
    }

    fn renew_lease<'a>(&'a self, server: &'a str, info: CometInfo) -> Answer<'a, LeaseRenewal> {
        self.0.renew_lease(server, info)
    }

    fn leases(&self) -> Answer<'_, Vec<Lease>> {
        self.0.leases()
    }
}

#[tokio::test]
async fn a_login_that_nobody_waits_for_is_taken_back() {
    let limits = memory::Limits {
        expire: Duration::from_mins(30),
        lease: Duration::from_mins(30),
        max_sessions: 10,
        max_comets: 10,
    };
    let store = Arc::new(Silent(MemorySessions::new(limits, Clock::system())));
    let sessions: Arc<dyn Sessions> = Arc::clone(&store) as _;
    let mut running = start_with(LogicStub::builder(config()).sessions(sessions));
    let comet = CometInfo {
        epoch: 1,
        grpc_address: "127.0.0.1:1".to_owned(),
        ..CometInfo::default()
    };
    let renewal = OnlineReq {
        server: "a".to_owned(),
        comet: Some(comet),
        ..OnlineReq::default()
    };
    running.client.renew_online(renewal).await.unwrap();
    let mut login = Request::new(ConnectReq {
        server: "a".to_owned(),
        token: br#"{"mid":7,"key":"k"}"#.to_vec().into(),
        connection: Some(ConnectionRef {
            epoch: 1,
            id: 1,
            ..ConnectionRef::default()
        }),
        ..ConnectReq::default()
    });
    login.set_timeout(Duration::from_mins(1));
    let mut client = running.client.clone();
    let calling = tokio::spawn(async move { client.connect(login).await });
    until(|| store.0.len() == 1).await;
    calling.abort();
    until(|| store.0.is_empty()).await;
}
