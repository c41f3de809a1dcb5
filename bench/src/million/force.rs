//! The comets and the processes of clients, one process for each comet.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    path::Path,
    process::{ChildStdin, ChildStdout, Command},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clap::ValueEnum as _;
use rustix::process::{Pid, Signal, kill_process};

use super::{
    TELL,
    agent::{Answer, Order, Outcome},
    checks::Plan,
};
use crate::{
    clients::{Cohort, Opened},
    doors::Door,
    measure::Processes,
    scenario::progress,
    server::{Comet, Logic, Running},
};

/// Logins of one order, so that progress can be shown and patience is for few.
const SLICE: u32 = 500;

/// Logins that a process has under way at once.
const AT_ONCE: u32 = 16;

/// Rooms of a comet, over which its connections are spread: as in the scenario `idle`.
const ROOMS: u32 = 1000;

/// All processes. They end with this value.
#[derive(Debug)]
pub(super) struct Force {
    agents: Vec<Agent>,
    comets: Vec<Comet>,
    logic: Logic,
    door: Door,
}

/// A process of clients.
#[derive(Debug)]
struct Agent {
    process: Running,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Connections that it is to have.
    share: u32,
    /// Connections that it has.
    open: u32,
}

impl Force {
    /// Starts everything, without connections.
    pub(super) fn start(
        comet: &Path,
        set: &[String],
        plan: Plan,
        door: Door,
    ) -> anyhow::Result<Self> {
        let logic = Logic::start()?;
        let comets = (0..plan.comets).map(|_| Comet::start(comet, set, logic.address));
        let comets = comets.collect::<anyhow::Result<Vec<_>>>()?;
        let shares = (0..plan.comets).map(|place| plan.share(place));
        let agents = comets.iter().zip(shares);
        let agents =
            agents.map(|(comet, share)| Agent::start(comet.doors.address(door)?, door, share));
        Ok(Self {
            agents: agents.collect::<anyhow::Result<_>>()?,
            comets,
            logic,
            door,
        })
    }

    /// The comets.
    pub(super) fn servers(&self) -> Processes {
        Processes::new(self.comets.iter().map(|it| it.process.0.id()).collect())
    }

    /// The processes of clients.
    pub(super) fn clients(&self) -> Processes {
        Processes::new(self.agents.iter().map(|it| it.process.0.id()).collect())
    }

    /// Where pushes go.
    pub(super) fn grpc(&self) -> Vec<SocketAddr> {
        self.comets.iter().map(|comet| comet.grpc).collect()
    }

    /// Connections that a comet has.
    pub(super) fn open_at(&self, place: usize) -> u64 {
        self.agents.get(place).map_or(0, |agent| agent.open.into())
    }

    /// An error if a process has ended.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        for comet in &mut self.comets {
            comet.process.check().context("a comet")?;
        }
        for agent in &mut self.agents {
            agent.process.check().context("a process of clients")?;
        }
        self.logic.process.check().context("the logic")
    }

    /// Logs clients in until each comet has `part` of `parts` of its share; tells how many there are.
    pub(super) fn open(&mut self, part: u32, parts: u32) -> anyhow::Result<u32> {
        let door = self.door;
        let open = AtomicU32::new(self.agents.iter().map(|agent| agent.open).sum());
        let started = (Instant::now(), open.load(Relaxed));
        thread::scope(|scope| {
            let open = &open;
            let threads: Vec<_> = self
                .agents
                .iter_mut()
                .map(|agent| {
                    let to = u64::from(agent.share) * u64::from(part) / u64::from(parts.max(1));
                    let to = u32::try_from(to).unwrap_or(agent.share);
                    scope.spawn(move || agent.open(to, door, open))
                })
                .collect();
            let mut told = Instant::now();
            while !threads.iter().all(thread::ScopedJoinHandle::is_finished) {
                thread::sleep(Duration::from_millis(20));
                if told.elapsed() >= TELL {
                    told = Instant::now();
                    let open = open.load(Relaxed);
                    let seconds = started.0.elapsed().as_secs_f64();
                    let rate = f64::from(open - started.1) / seconds;
                    progress(&format!("{open} logged in, {rate:.0} a second"));
                }
            }
            let mut threads = threads.into_iter();
            threads.try_for_each(|thread| thread.join().unwrap_or_else(|_| bail!("a panic")))
        })?;
        self.check()?;
        Ok(open.into_inner())
    }

    /// All clients wait for one message.
    pub(super) fn begin(&mut self) -> anyhow::Result<()> {
        self.ask_all(|agent| Order::Begin(agent.open)).map(drop)
    }

    /// How many have it.
    pub(super) fn received(&mut self) -> anyhow::Result<u64> {
        let answers = self.ask_all(|_| Order::Received)?;
        let count = |answer: &Answer| match answer {
            Answer::Received(count) => *count,
            _ => 0,
        };
        Ok(answers.iter().map(count).sum())
    }

    /// What all of them have, with the latencies.
    pub(super) fn result(&mut self) -> anyhow::Result<(Outcome, Opened)> {
        let (mut all, mut latencies) = (Outcome::default(), Opened::default());
        for answer in self.ask_all(|agent| Order::Result(agent.open))? {
            let Answer::Result(one) = answer else {
                continue;
            };
            all.tally.add(&one.tally);
            all.strays += one.strays;
            all.gone += one.gone;
            all.last_receipt = all.last_receipt.max(one.last_receipt);
            for (nanos, count) in one.latency {
                latencies.latency.saturating_record_n(nanos, count);
            }
        }
        Ok((all, latencies))
    }

    /// Closes all connections. The comets stand still from here on: they would tell logic of every goodbye, which takes longer
    /// than all the rest and is no part of what is measured.
    pub(super) fn close(&mut self) -> anyhow::Result<()> {
        for comet in &self.comets {
            kill_process(Pid::from_child(&comet.process.0), Signal::STOP)?;
        }
        self.ask_all(|agent| Order::Close(agent.open)).map(drop)
    }

    /// Asks all processes at the same time.
    fn ask_all(&mut self, order: impl Fn(&Agent) -> Order) -> anyhow::Result<Vec<Answer>> {
        for agent in &mut self.agents {
            let order = order(agent);
            agent.send(order)?;
        }
        self.agents.iter_mut().map(Agent::answer).collect()
    }
}

impl Drop for Force {
    fn drop(&mut self) {
        // All at once: each takes a while to close its connections, and is waited for when it is dropped itself.
        let agents = self.agents.iter_mut().map(|agent| &mut agent.process);
        let comets = self.comets.iter_mut().map(|comet| &mut comet.process);
        for process in comets.chain(agents) {
            // It may have ended by itself.
            drop(process.0.kill());
        }
    }
}

impl Agent {
    fn start(address: SocketAddr, door: Door, share: u32) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["agent", "--address", &address.to_string()]);
        let door = door.to_possible_value().context("a door without a name")?;
        command.args(["--door", door.get_name()]);
        let mut process = Running::start_with_pipes(&mut command)?;
        let orders = process.0.stdin.take().context("a pipe")?;
        let answers = process.0.stdout.take().context("a pipe")?;
        Ok(Self {
            process,
            orders,
            answers: BufReader::new(answers),
            share,
            open: 0,
        })
    }

    /// Logs clients in until there are `to`; adds them to `all`.
    fn open(&mut self, to: u32, door: Door, all: &AtomicU32) -> anyhow::Result<()> {
        while self.open < to {
            let cohort = Cohort {
                first: self.open,
                count: SLICE.min(to - self.open),
                door,
                rooms: ROOMS,
                shift: 0,
            };
            self.send(Order::Open(cohort, AT_ONCE))?;
            if let Answer::Opened { opened, last_error } = self.answer()? {
                if let Some(error) = last_error {
                    bail!("{error}");
                }
                self.open += opened;
                all.fetch_add(opened, Relaxed);
            }
        }
        Ok(())
    }

    fn send(&mut self, order: Order) -> anyhow::Result<()> {
        let line = serde_json::to_string(&order)?;
        writeln!(self.orders, "{line}").context("a process of clients takes no orders")
    }

    fn answer(&mut self) -> anyhow::Result<Answer> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        if line.is_empty() {
            bail!("a process of clients has ended");
        }
        let answer: Result<Answer, String> = serde_json::from_str(&line)?;
        answer.map_err(anyhow::Error::msg)
    }
}
