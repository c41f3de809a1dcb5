//! A thread's loop: one epoll, one buffer, all its connections.

use std::{
    io,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, Waker};
use socket2::SockRef;
use tokio::sync::oneshot;

use super::{
    Cohort, Doors, Opened, Order, Progress, Reply, Stats, Tally, Task,
    connection::{Connection, Counts, Ended, Step},
    sequence::Sequence,
    source,
    window::Window,
};
use crate::measure;

/// Bytes of the one buffer that all connections are read into.
const BUFFER: usize = 256 << 10;

/// Bytes of the receive buffer of a connection that stops reading.
const PAUSED_BUFFER: usize = 4 << 10;

/// Events taken at once.
const EVENTS: usize = 1024;

/// How often what has a deadline is looked at.
const TICK: Duration = Duration::from_millis(100);

const WAKER: Token = Token(usize::MAX);

/// One thread of clients.
#[derive(Debug)]
pub(super) struct Engine {
    doors: Doors,
    /// This thread has the connections `index + k * threads`.
    index: u32,
    threads: u32,
    poll: Poll,
    inbox: mpsc::Receiver<Order>,
    progress: Arc<Progress>,
    /// At their number divided by the threads; kept when they have ended, for their counts.
    slots: Vec<Option<Slot>>,
    counts: Counts,
    buffer: Vec<u8>,
    opening: Option<Opening>,
    groups: u32,
    joined: u32,
}

#[derive(Debug)]
struct Slot {
    connection: Connection,
    ended: bool,
}

/// Logins under way.
#[derive(Debug)]
struct Opening {
    cohort: Cohort,
    at_once: u32,
    /// The number that comes next.
    next: u32,
    under_way: u32,
    started: Instant,
    patience: Duration,
    opened: Opened,
    reply: oneshot::Sender<Reply>,
}

impl Engine {
    /// A thread's loop, and what wakes it.
    pub(super) fn new(
        doors: Doors,
        index: u32,
        threads: u32,
        inbox: mpsc::Receiver<Order>,
        progress: Arc<Progress>,
    ) -> io::Result<(Self, Waker)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let engine = Self {
            doors,
            index,
            threads,
            poll,
            inbox,
            progress,
            slots: Vec::new(),
            counts: Counts {
                stats: Stats::default(),
                window: Window::new(1, &[0]),
                reach: 0,
                series_from: 0,
                measure_from: u64::MAX,
            },
            buffer: vec![0; BUFFER],
            opening: None,
            groups: 1,
            joined: 1,
        };
        Ok((engine, waker))
    }

    /// Runs until nobody can give orders any more.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            match self.poll.poll(&mut events, Some(TICK)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    self.counts.stats.last_error = Some(format!("epoll: {error}"));
                    return;
                }
                _ => {}
            }
            let before = self.counts.stats.received;
            for event in &events {
                if event.token() != WAKER {
                    self.ready(event.token().0, event.is_read_closed());
                }
            }
            let received = self.counts.stats.received - before;
            if received > 0 {
                self.progress.add_received(received);
                self.counts.window.advance(&self.progress);
            }
            loop {
                match self.inbox.try_recv() {
                    Ok(order) => self.obey(order),
                    Err(mpsc::TryRecvError::Empty) => break,
                    Err(mpsc::TryRecvError::Disconnected) => return,
                }
            }
            self.go_on_opening();
        }
    }

    fn ready(&mut self, at: usize, is_closed: bool) {
        let Some(slot) = self.slots.get_mut(at).and_then(Option::as_mut) else {
            return;
        };
        if slot.ended {
            return;
        }
        let was_online = slot.connection.is_online();
        let ready = slot
            .connection
            .ready(is_closed, &mut self.buffer, &mut self.counts);
        match ready {
            Ok(Step::On) => {}
            Ok(Step::LoggedIn) => {
                let took = measure::now().saturating_sub(slot.connection.since);
                self.logged_in(Ok(took));
            }
            Err(ended) => {
                slot.ended = true;
                // An error means that it is not registered any more.
                self.poll
                    .registry()
                    .deregister(&mut slot.connection.socket)
                    .unwrap_or(());
                if was_online {
                    self.ended(&ended);
                } else {
                    self.logged_in(Err(ended.to_string()));
                }
            }
        }
    }

    fn ended(&mut self, ended: &Ended) {
        let stats = &mut self.counts.stats;
        match ended {
            Ended::Closed => stats.closed += 1,
            Ended::Walk(_) | Ended::Io(_) => {
                stats.errors += 1;
                stats.last_error = Some(ended.to_string());
            }
        }
    }

    fn logged_in(&mut self, outcome: Result<u64, String>) {
        let Some(opening) = &mut self.opening else {
            return;
        };
        opening.under_way = opening.under_way.saturating_sub(1);
        match outcome {
            Ok(took) => {
                opening.opened.opened += 1;
                opening.opened.latency.saturating_record(took);
            }
            Err(error) => {
                opening.opened.failed += 1;
                opening.opened.last_error = Some(error);
            }
        }
    }

    /// Connects more, and answers when all have come in or the time is up.
    fn go_on_opening(&mut self) {
        while let Some(opening) = &mut self.opening
            && opening.under_way < opening.at_once
            && opening.next < opening.cohort.first + opening.cohort.count
        {
            let (cohort, number) = (opening.cohort, opening.next);
            opening.next += self.threads;
            opening.under_way += 1;
            if let Err(error) = self.connect(&cohort, number) {
                self.logged_in(Err(error.to_string()));
            }
        }
        let is_over = |opening: &mut Opening| {
            opening.under_way == 0 || opening.started.elapsed() > opening.patience
        };
        if let Some(mut opening) = self.opening.take_if(is_over) {
            let end = opening.cohort.first + opening.cohort.count;
            let untried = end.saturating_sub(opening.next).div_ceil(self.threads);
            opening.opened.failed += opening.under_way + untried;
            opening.opened.elapsed =
                u64::try_from(opening.started.elapsed().as_nanos()).unwrap_or(0);
            answer(opening.reply, Reply::Opened(Box::new(opening.opened)));
        }
    }

    fn connect(&mut self, cohort: &Cohort, number: u32) -> anyhow::Result<()> {
        let server = self.doors.address(cohort.door)?;
        let token = cohort.token(number);
        let mut connection = Connection::open(server, source(server, number), cohort.door, &token)?;
        let at = self.slot(number);
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut connection.socket, Token(at), both)?;
        if self.slots.len() <= at {
            self.slots.resize_with(at + 1, || None);
        }
        // One that is already there is closed by this.
        self.slots[at] = Some(Slot {
            connection,
            ended: false,
        });
        Ok(())
    }

    fn obey(&mut self, order: Order) {
        let Order { task, reply } = order;
        let done = match task {
            Task::Open {
                cohort,
                at_once,
                patience,
            } => {
                self.opening = Some(Opening {
                    next: self.first_own(cohort.first),
                    cohort,
                    at_once,
                    under_way: 0,
                    started: Instant::now(),
                    patience,
                    opened: Opened::default(),
                    reply,
                });
                return;
            }
            Task::Close { first, count } => {
                for at in self.own(first, count) {
                    self.slots[at] = None;
                }
                Reply::Done
            }
            Task::Reset { first, count } => {
                for at in self.own(first, count) {
                    if let Some(slot) = self.slots[at].take() {
                        slot.connection.reset();
                    }
                }
                Reply::Done
            }
            Task::Begin {
                members,
                groups,
                joined,
                overtaking,
            } => {
                self.begin(members, groups.max(1), joined);
                self.counts.reach = u64::from(overtaking) * u64::from(joined.max(1));
                Reply::Done
            }
            Task::Mark => {
                self.counts.measure_from = measure::now();
                self.counts.stats.latency.reset();
                Reply::Done
            }
            Task::Pause {
                first,
                count,
                paused,
            } => {
                self.pause(first, count, paused);
                Reply::Done
            }
            Task::Beat { first, count, on } => {
                self.beat(first, count, on);
                Reply::Done
            }
            Task::Stats => Reply::Stats(Box::new(self.counts.stats.clone())),
            Task::Tally {
                first,
                count,
                pushes,
            } => Reply::Tally(self.tally(first, count, pushes)),
        };
        answer(reply, done);
    }

    fn begin(&mut self, members: u32, groups: u32, joined: u32) {
        let mut sizes = vec![0; usize::try_from(groups).unwrap_or(0)];
        for (at, slot) in self.slots.iter_mut().enumerate() {
            let Some(Slot { connection, ended }) = slot else {
                continue;
            };
            let number = u32::try_from(at).unwrap_or(u32::MAX) * self.threads + self.index;
            connection.sequence = Sequence::default();
            connection.group = (number < members).then_some(number % groups);
            if let Some(group) = connection.group.filter(|_| !*ended)
                && let Some(size) = sizes.get_mut(group as usize)
            {
                *size += 1;
            }
        }
        (self.groups, self.joined) = (groups, joined);
        self.counts.window = Window::new(joined, &sizes);
        self.counts.series_from = measure::now();
        self.counts.measure_from = u64::MAX;
        self.counts.window.restart(&self.progress);
    }

    fn pause(&mut self, first: u32, count: u32, paused: bool) {
        for at in self.own(first, count) {
            let Some(Slot {
                connection,
                ended: false,
            }) = &mut self.slots[at]
            else {
                continue;
            };
            let registry = self.poll.registry();
            let socket = &mut connection.socket;
            // What fits into the buffers is not slow; and who goes on is not to be slow any more.
            let size = if paused { PAUSED_BUFFER } else { BUFFER };
            let sized = SockRef::from(&*socket).set_recv_buffer_size(size);
            let both = Interest::READABLE | Interest::WRITABLE;
            let done = sized.and_then(|()| {
                if paused {
                    registry.deregister(socket)
                } else {
                    registry.register(socket, Token(at), both)
                }
            });
            if let Err(error) = done {
                self.counts.stats.last_error = Some(error.to_string());
            }
        }
    }

    fn beat(&mut self, first: u32, count: u32, on: bool) {
        for at in self.own(first, count) {
            let Some(Slot {
                connection,
                ended: false,
            }) = &mut self.slots[at]
            else {
                continue;
            };
            connection.beating = on;
            if on && let Err(error) = connection.beat(&mut self.counts) {
                self.counts.stats.last_error = Some(error.to_string());
            }
        }
    }

    fn tally(&self, first: u32, count: u32, pushes: u64) -> Tally {
        let mut tally = Tally::default();
        for at in self.own(first, count) {
            let Some(Slot { connection, ended }) = &self.slots[at] else {
                continue;
            };
            let Some(group) = connection.group else {
                continue;
            };
            let turns = (pushes + u64::from(self.groups - 1 - group)) / u64::from(self.groups);
            let end = turns * u64::from(self.joined);
            tally.expected += end;
            tally.lost += connection.sequence.lost(end);
            tally.duplicated += connection.sequence.duplicated();
            tally.reordered += connection.sequence.reordered();
            tally.gone += u64::from(*ended);
        }
        tally
    }

    /// The slots of this thread for numbers from `first` on, as far as there are any.
    fn own(&self, first: u32, count: u32) -> std::ops::Range<usize> {
        let slot = |number| self.slot(self.first_own(number)).min(self.slots.len());
        slot(first)..slot(first + count)
    }

    /// The first number from `number` on that belongs to this thread.
    fn first_own(&self, number: u32) -> u32 {
        number + (self.index + self.threads - number % self.threads) % self.threads
    }

    fn slot(&self, number: u32) -> usize {
        (number / self.threads) as usize
    }
}

/// Whoever asked may have gone.
fn answer(to: oneshot::Sender<Reply>, reply: Reply) {
    drop(to.send(reply));
}
