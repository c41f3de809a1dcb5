//! A socket and its TLS session as one stream, for the handshake and for HTTP.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{
    TlsError,
    session::{RECORD, Session},
};

/// Bytes asked of the socket at once: what clients send here is short.
const READ: usize = 4096;

/// A connection behind TLS. It is large, and lives no longer than someone speaks HTTP on it.
#[derive(Debug)]
pub struct TlsStream {
    socket: TcpStream,
    session: Box<Session>,
    /// Plain bytes that nobody has read yet, the first `read` of which someone has.
    opened: Vec<u8>,
    read: usize,
}

impl TlsStream {
    pub(super) fn new(socket: TcpStream, session: Box<Session>) -> Self {
        Self {
            socket,
            session,
            opened: Vec::new(),
            read: 0,
        }
    }

    /// The socket, for its options.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Takes the plain bytes that nobody has read yet.
    pub fn take_unread(&mut self) -> Vec<u8> {
        let mut unread = std::mem::take(&mut self.opened);
        unread.drain(..std::mem::take(&mut self.read));
        unread
    }

    /// The socket and the session; what is unread is lost.
    pub fn into_parts(self) -> (TcpStream, Box<Session>) {
        (self.socket, self.session)
    }

    pub(super) fn into_socket(self) -> TcpStream {
        self.socket
    }

    /// Ready when the handshake is over and our part of it is written. With an error the client is told, if that can be done at
    /// once.
    pub(super) fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TlsError>> {
        loop {
            ready!(self.poll_flushed(cx))?;
            if !self.session.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if ready!(self.poll_filled(cx))? == 0 {
                return Poll::Ready(Err(TlsError::Closed));
            }
        }
    }

    /// Reads once; returns how many bytes came of the socket.
    fn poll_filled(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, TlsError>> {
        let mut buffer = [0; READ];
        loop {
            ready!(self.socket.poll_read_ready(cx))?;
            match self.socket.try_read(&mut buffer) {
                Ok(count) => {
                    let received = self.session.receive(&mut buffer[..count], &mut self.opened);
                    if received.is_err() {
                        // The alert; whether the client hears it is its own affair.
                        self.flush_now().unwrap_or_default();
                    }
                    return Poll::Ready(received.map(|()| count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Ready when the socket has everything.
    fn poll_flushed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.flush_now() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.socket.poll_write_ready(cx))?;
                }
                done => return Poll::Ready(done),
            }
        }
    }

    fn flush_now(&mut self) -> io::Result<()> {
        let Self {
            socket, session, ..
        } = self;
        session.flush(|bytes| socket.try_write(bytes))
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let unread = &self.opened[self.read..];
            if !unread.is_empty() {
                let count = unread.len().min(buf.remaining());
                buf.put_slice(&unread[..count]);
                self.read += count;
                if self.read == self.opened.len() {
                    self.opened = Vec::new();
                    self.read = 0;
                }
                return Poll::Ready(Ok(()));
            }
            if self.session.is_over() || ready!(self.poll_filled(cx))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for TlsStream {
    /// Takes at most a record, and nothing while the one before it waits.
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_flushed(cx))?;
        let taken = buf.len().min(RECORD);
        self.session.seal(&buf[..taken])?;
        match self.flush_now() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(taken)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flushed(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A session that has failed has nothing more to say.
        self.session.close().unwrap_or_default();
        ready!(self.poll_flushed(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
