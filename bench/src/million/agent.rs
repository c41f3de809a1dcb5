//! A process of clients: it reads orders from its input, a line of JSON each, and answers each with a line on its output.

use std::{
    io::{self, BufRead as _, Write as _},
    net::SocketAddr,
};

use anyhow::Context as _;
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::{
    clients::{Cohort, Doors, Fleet, Tally, Task},
    doors::Door,
};

/// Whom the process serves.
#[derive(Debug, Clone, Copy, Args)]
pub struct AgentArgs {
    /// The door of its comet.
    #[arg(long)]
    address: SocketAddr,
    /// Which door that is.
    #[arg(long, value_enum)]
    door: Door,
}

/// What it is told to do. It has the connections from number 0 on.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum Order {
    /// Log in, so many under way.
    Open(Cohort, u32),
    /// So many connections wait for one message.
    Begin(u32),
    /// Tell how many have it.
    Received,
    /// Tell what so many connections have.
    Result(u32),
    /// Close so many.
    Close(u32),
}

/// What it answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Answer {
    /// It is done.
    Done,
    /// To [`Order::Open`].
    Opened {
        /// Logged in.
        opened: u32,
        /// Why others are not.
        last_error: Option<String>,
    },
    /// To [`Order::Received`].
    Received(u64),
    /// To [`Order::Result`].
    Result(Box<Outcome>),
}

/// What the connections of a process have.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Outcome {
    /// Of the one message.
    pub(super) tally: Tally,
    /// What came besides.
    pub(super) strays: u64,
    /// Connections that were closed since the process began.
    pub(super) gone: u64,
    /// When the last message came.
    pub(super) last_receipt: u64,
    /// Nanoseconds from push to receipt, and how many took them.
    pub(super) latency: Vec<(u64, u64)>,
}

/// Serves until its input ends.
pub async fn serve(args: AgentArgs) -> anyhow::Result<()> {
    let fleet = Fleet::start(Doors::only(args.door, args.address), 1)?;
    for line in io::stdin().lock().lines() {
        let order = serde_json::from_str(&line?).context("an order")?;
        let answer = obey(&fleet, order).await;
        let line = serde_json::to_string(&answer.map_err(|error| format!("{error:#}")))?;
        let mut out = io::stdout().lock();
        writeln!(out, "{line}")?;
        out.flush()?;
    }
    Ok(())
}

async fn obey(fleet: &Fleet, order: Order) -> anyhow::Result<Answer> {
    match order {
        Order::Open(cohort, at_once) => {
            let opened = fleet.open(cohort, at_once).await?;
            let last_error = (opened.failed > 0).then(|| {
                let reason = opened.last_error.unwrap_or("no answer in time".to_owned());
                format!("{} logins failed; the last: {reason}", opened.failed)
            });
            return Ok(Answer::Opened {
                opened: opened.opened,
                last_error,
            });
        }
        Order::Begin(members) => {
            let begin = Task::Begin {
                members,
                groups: 1,
                joined: 1,
                overtaking: 0,
            };
            fleet.tell(begin).await?;
            fleet.tell(Task::Mark).await?;
        }
        Order::Received => return Ok(Answer::Received(fleet.received())),
        Order::Result(count) => {
            let (tally, stats) = (fleet.tally(0, count, 1).await?, fleet.stats().await?);
            let recorded = stats.latency.iter_recorded();
            return Ok(Answer::Result(Box::new(Outcome {
                tally,
                strays: stats.strays,
                gone: stats.closed + stats.errors,
                last_receipt: stats.last_receipt,
                latency: recorded
                    .map(|step| (step.value_iterated_to(), step.count_at_value()))
                    .collect(),
            })));
        }
        Order::Close(count) => fleet.tell(Task::Reset { first: 0, count }).await?,
    }
    Ok(Answer::Done)
}
