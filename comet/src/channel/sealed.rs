//! A channel behind TLS. Whoever pushes only fills the backlog; the connection's task takes from it, encrypts and writes.
//!
//! What waits goes out together, as much in one record as fits. Nothing is taken while records wait for the socket, so that
//! what a slow client makes wait is in the backlog, within its bounds, and one record beyond it.

use std::{io, mem};

use parking_lot::Mutex;
use protocol::MessageId;
use tokio::net::TcpStream;

use super::{Channel, Outlet, noted::gone};
use crate::{
    transport::{
        stream::Stream,
        tls::{RECORD, Session},
    },
    whitelist::{Step, What},
};

/// Records that a task writes before others get their turn.
const RECORDS: usize = 16;

/// A socket behind TLS.
#[derive(Debug)]
pub struct Sealed {
    socket: TcpStream,
    /// For the connection's task alone, which also takes it before the channel's own lock: nobody waits for it.
    side: Mutex<Side>,
}

#[derive(Debug)]
struct Side {
    session: Box<Session>,
    /// In the record that the socket has yet to take.
    under_way: UnderWay,
}

/// Messages that end in a record.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    messages: usize,
    /// Which those are, where steps are noted.
    noted: Vec<MessageId>,
}

impl From<Stream> for Outlet {
    /// What was read ahead on the stream has to be taken before.
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::Plain(socket) => Self::Direct(socket),
            Stream::Tls(stream) => {
                let (socket, session) = stream.into_parts();
                let side = Side {
                    session,
                    under_way: UnderWay::default(),
                };
                Self::Sealed(Box::new(Sealed {
                    socket,
                    side: Mutex::new(side),
                }))
            }
        }
    }
}

impl Sealed {
    /// Reads once by `read`, which is lent `buffer`, and appends what that amounts to to `opened`. Returns how many bytes those
    /// are, 0 at the end of what the client sends; nothing yet is [`io::ErrorKind::WouldBlock`].
    pub fn read(
        &self,
        buffer: &mut [u8],
        opened: &mut Vec<u8>,
        read: impl FnOnce(&TcpStream, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut side = self.side.lock();
        let session = &mut side.session;
        if session.is_over() {
            return Ok(0);
        }
        let count = read(&self.socket, buffer)?;
        if count == 0 {
            return Ok(0);
        }
        session.receive(&mut buffer[..count], opened)?;
        if opened.is_empty() {
            return if session.is_over() {
                Ok(0)
            } else {
                Err(io::ErrorKind::WouldBlock.into())
            };
        }
        Ok(opened.len())
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Whether records wait for the socket.
    pub(super) fn has_pending(&self) -> bool {
        self.side.lock().session.has_pending()
    }

    /// Whether the client has said that nothing follows, which no event of the socket tells.
    pub(super) fn is_over(&self) -> bool {
        self.side.lock().session.is_over()
    }

    /// Says to the client that nothing follows. Returns whether that is new, and has to be flushed.
    pub(super) fn close(&self) -> bool {
        let mut side = self.side.lock();
        let session = &mut side.session;
        if session.is_closed() {
            return false;
        }
        // A session that has failed has nothing more to say.
        session.close().is_ok()
    }

    /// Gives up the messages that the socket has yet to take.
    pub(super) fn give_up(&self) -> UnderWay {
        mem::take(&mut self.side.lock().under_way)
    }
}

impl Channel {
    /// Writes what waits, as far as the socket takes it, or some of it where there is much.
    pub(super) fn write_sealed(&self, sealed: &Sealed) -> io::Result<()> {
        let written = self.seal_and_write(&sealed.socket, &mut sealed.side.lock());
        match written {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => {
                self.fail(&mut self.state.lock());
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    }

    fn seal_and_write(&self, socket: &TcpStream, side: &mut Side) -> io::Result<()> {
        let writes = &self.context.metrics.writes;
        for _ in 0..RECORDS {
            let mut last = false;
            side.session.flush(|bytes| {
                let written = socket.try_write(bytes)?;
                last = written == bytes.len();
                if !last {
                    writes.observe_many(0, 1);
                }
                Ok(written)
            })?;
            let under_way = mem::take(&mut side.under_way);
            if last {
                writes.observe_many(under_way.messages as u64, 1);
            }
            self.count_delivered(&under_way);
            let (bytes, under_way) = self.take_waiting();
            if bytes.is_empty() {
                return Ok(());
            }
            side.under_way = under_way;
            side.session.seal(&bytes)?;
        }
        Ok(())
    }

    /// Takes what one record holds from the backlog, and says which messages end in it. Answers count as written from here on:
    /// the record is all that they still wait for.
    fn take_waiting(&self) -> (Vec<u8>, UnderWay) {
        let mut state = self.state.lock();
        let before = self.waiting(&state);
        let mut bytes = Vec::new();
        let done = state.backlog.take(RECORD, self.door, &mut bytes);
        if let Some(waited) = done.waited {
            self.context.metrics.backlogs.observe(waited);
        }
        if done.replies > 0 {
            let (count, bytes) = (done.replies, done.reply_bytes);
            self.note(&Step::Write(What::Answers { count, bytes }));
        }
        let noted = gone(&before, &self.waiting(&state));
        self.pay(&mut state, done.replies);
        let messages = usize::try_from(done.messages).unwrap_or(usize::MAX);
        (bytes, UnderWay { messages, noted })
    }

    fn count_delivered(&self, under_way: &UnderWay) {
        let messages = under_way.messages as u64;
        self.context.metrics.delivered.inc_by(messages);
        if !under_way.noted.is_empty() {
            self.note(&Step::Write(What::Messages(&under_way.noted)));
        }
    }

    /// Counts messages that the socket will not take.
    pub(super) fn lose_under_way(&self, under_way: &UnderWay, reason: &'static str) {
        self.count_lost(under_way.messages, reason);
        if !under_way.noted.is_empty() {
            let messages = &under_way.noted;
            self.note(&Step::Lost { reason, messages });
        }
    }
}
