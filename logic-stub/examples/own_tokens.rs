//! A logic service with a token check of its own: a client comes in by a ticket that another service has handed out to a user,
//! and can be nobody else.
//!
//! `cargo run -p logic-stub --example own_tokens`, in the place of logic-stub. Then Auth with
//! `{"ticket":"b7c1","room_id":"live://1000","accepts":[1000]}` logs user 2 in.

use std::{collections::HashMap, sync::Arc};

use common::{
    config::{self, Sources},
    shutdown, telemetry,
};
use futures_util::future::{BoxFuture, ready};
use logic_stub::{
    Business, LogicStub,
    business::{Refusal, read_token},
    config::SPEC,
};
use protocol::{Token, grpc::goim::logic::ConnectReq};
use serde::Deserialize;

/// The users by their tickets. A product would ask a database here, or check a signature.
struct Tickets(HashMap<String, i64>);

/// What a client shows beside goim's fields.
#[derive(Deserialize)]
struct Shown {
    ticket: String,
}

impl Business for Tickets {
    fn authenticate<'a>(
        &'a self,
        request: &'a ConnectReq,
    ) -> BoxFuture<'a, Result<Token, Refusal>> {
        Box::pin(ready(self.admit(&request.token)))
    }
}

impl Tickets {
    /// Takes from the client what it wants, and from the ticket who it is.
    fn admit(&self, token: &[u8]) -> Result<Token, Refusal> {
        let wanted = read_token(token)?;
        let Shown { ticket } = serde_json::from_slice(token)
            .map_err(|error| Refusal::Malformed(format!("the ticket: {error}")))?;
        let mid = self.0.get(&ticket).copied();
        Ok(Token {
            mid: mid.ok_or_else(|| Refusal::Unauthenticated("an unknown ticket".to_owned()))?,
            // A key that a client chooses could take another's connection away: logic makes one.
            key: String::new(),
            ..wanted
        })
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    telemetry::init(telemetry::DEFAULT_FILTER)?;
    let sources = Sources::from_process(None, Vec::new());
    let config = config::load(&SPEC, &sources)?.config;
    let tickets = HashMap::from([("9e04".to_owned(), 1), ("b7c1".to_owned(), 2)]);
    let logic = LogicStub::builder(config)
        .business(Arc::new(Tickets(tickets)))
        .start(shutdown::on_signals())?;
    tracing::info!(grpc = %logic.grpc_addr(), http = %logic.http_addr(), "logic is up");
    logic.join().await;
    Ok(())
}
