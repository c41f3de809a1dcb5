//! A channel as its connection's own task has it: what to do next, and writing what waits. For outlets with a socket.

use std::{
    io,
    task::{Context, Poll, ready},
};

use tokio::net::TcpStream;

use super::{Channel, Outlet, Sealed, State};
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
        self.poll_turn_if(cx, has_rest, true)
    }

    /// The same for a task that must not read now.
    pub fn poll_turn_unread(&self, cx: &mut Context<'_>) -> Poll<Turn> {
        self.poll_turn_if(cx, false, false)
    }

    fn poll_turn_if(&self, cx: &mut Context<'_>, has_rest: bool, may_read: bool) -> Poll<Turn> {
        let (socket, pending, over) = match &self.outlet {
            Outlet::Direct(socket) => (socket, false, false),
            Outlet::Sealed(sealed) => (sealed.socket(), sealed.has_pending(), sealed.is_over()),
            Outlet::Woken => return Poll::Pending,
        };
        let (writes, reads) = {
            let mut state = self.state.lock();
            if state.closing.is_some() {
                return Poll::Ready(Turn::Close);
            }
            state.wake_later(cx);
            (
                pending || !state.backlog.is_empty(),
                may_read && !state.ring.is_full(),
            )
        };
        // Writing first: it frees memory and the ring. An error of the poll is the runtime's end; the read then reports it.
        if writes && socket.poll_write_ready(cx).is_ready() {
            return Poll::Ready(Turn::Write);
        }
        if reads && (has_rest || over || socket.poll_read_ready(cx).is_ready()) {
            return Poll::Ready(Turn::Read);
        }
        Poll::Pending
    }

    /// Ready when nothing waits any more and the farewell is written, with which TLS ends too.
    pub fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(socket) = self.socket() else {
            return Poll::Ready(Ok(()));
        };
        loop {
            self.write_waiting()?;
            let sealed = self.sealed();
            let waits =
                sealed.is_some_and(Sealed::has_pending) || !self.state.lock().backlog.is_empty();
            if waits {
                ready!(socket.poll_write_ready(cx))?;
            } else if !sealed.is_some_and(Sealed::close) {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Writes what waits, as far as the socket takes it.
    pub fn write_waiting(&self) -> io::Result<()> {
        let socket = match &self.outlet {
            Outlet::Direct(socket) => socket,
            Outlet::Sealed(sealed) => return self.write_sealed(sealed),
            Outlet::Woken => return Ok(()),
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

    /// The socket, if the outlet has one. Behind TLS, what it carries is for [`Self::sealed`] alone.
    pub fn socket(&self) -> Option<&TcpStream> {
        match &self.outlet {
            Outlet::Direct(socket) => Some(socket),
            Outlet::Sealed(sealed) => Some(sealed.socket()),
            Outlet::Woken => None,
        }
    }

    /// The socket with its TLS, where there is TLS.
    pub fn sealed(&self) -> Option<&Sealed> {
        match &self.outlet {
            Outlet::Sealed(sealed) => Some(sealed),
            Outlet::Direct(_) | Outlet::Woken => None,
        }
    }

    /// Ends the channel: what still waits is lost with the reason of the close.
    pub fn finish(&self) {
        let under_way = self.sealed().map(Sealed::give_up).unwrap_or_default();
        let mut state = self.state.lock();
        let reason = *state.closing.get_or_insert(CloseReason::Internal);
        self.lose_all(&mut state, reason.label());
        self.lose_under_way(&under_way, reason.label());
        self.note_end(reason.label());
        state.room = None;
    }
}

impl State {
    pub(super) fn wake_later(&mut self, cx: &Context<'_>) {
        if !self
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            self.waker = Some(cx.waker().clone());
        }
    }
}
