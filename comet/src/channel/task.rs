//! A channel as its connection's own task has it: what to do next, and writing what waits. For direct outlets.

use std::{
    io,
    task::{Context, Poll, ready},
};

use tokio::net::TcpStream;

use super::{Channel, Outlet, State};
use crate::close::CloseReason;

/// What a connection's task should do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Say farewell.
    Close,
    /// Write what waits.
    Write,
    /// Read.
    Read,
}

impl Channel {
    /// What the connection's task should do next; the task is woken when that changes. `has_rest` says that there is something
    /// to parse without reading.
    pub fn poll_turn(&self, cx: &mut Context<'_>, has_rest: bool) -> Poll<Turn> {
        let Outlet::Direct(socket) = &self.outlet else {
            return Poll::Pending;
        };
        let (writes, reads) = {
            let mut state = self.state.lock();
            if state.closing.is_some() {
                return Poll::Ready(Turn::Close);
            }
            state.wake_later(cx);
            (!state.backlog.is_empty(), !state.ring.is_full())
        };
        // Writing first: it frees memory and the ring. An error of the poll is the runtime's end; the read then reports it.
        if writes && socket.poll_write_ready(cx).is_ready() {
            return Poll::Ready(Turn::Write);
        }
        if reads && (has_rest || socket.poll_read_ready(cx).is_ready()) {
            return Poll::Ready(Turn::Read);
        }
        Poll::Pending
    }

    /// Ready when nothing waits any more and the farewell is written.
    pub fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Outlet::Direct(socket) = &self.outlet else {
            return Poll::Ready(Ok(()));
        };
        loop {
            self.write_waiting()?;
            if self.state.lock().backlog.is_empty() {
                return Poll::Ready(Ok(()));
            }
            ready!(socket.poll_write_ready(cx))?;
        }
    }

    /// Writes what waits, as far as the socket takes it.
    pub fn write_waiting(&self) -> io::Result<()> {
        let Outlet::Direct(socket) = &self.outlet else {
            return Ok(());
        };
        let mut state = self.state.lock();
        let metrics = &self.context.metrics;
        let before = self.waiting(&state);
        let done = state.backlog.write_to(socket, self.door, &metrics.writes);
        self.note_written(&state, &before, &done);
        metrics.delivered.inc_by(done.messages);
        if let Some(waited) = done.waited {
            metrics.backlogs.observe(waited);
        }
        self.pay(&mut state, done.replies);
        if done.result.is_err() {
            self.fail(&mut state);
        }
        done.result
    }

    /// The socket of a direct outlet.
    pub fn socket(&self) -> Option<&TcpStream> {
        match &self.outlet {
            Outlet::Direct(socket) => Some(socket),
            Outlet::Woken => None,
        }
    }

    /// Ends the channel: what still waits is lost with the reason of the close.
    pub fn finish(&self) {
        let mut state = self.state.lock();
        let reason = *state.closing.get_or_insert(CloseReason::Internal);
        self.lose_all(&mut state, reason.label());
        self.note_end(reason.label());
        state.room = None;
    }
}

impl State {
    fn wake_later(&mut self, cx: &Context<'_>) {
        if !self
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            self.waker = Some(cx.waker().clone());
        }
    }
}
