//! One TLS session without a socket: records in, plain bytes out, and the other way.
//!
//! It uses the interface of rustls to which all buffers are lent. What is kept between two calls is what has not come whole and
//! what the socket has not taken: with an idle client, nothing.

use std::{fmt, io, mem, sync::Arc};

use rustls::{
    ServerConfig,
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic},
};

use super::TlsError;

/// The most that one record holds of plain bytes (RFC 8446 section 5.1).
pub const RECORD: usize = 16 << 10;

/// What may wait for the rest of a record, or of a message of the handshake over several records. A record has at most 18,437 bytes;
/// a client's hello has about two thousand.
const MAX_REST: usize = 32 << 10;

/// What a record adds to its plain bytes at most, in any cipher that is used.
const OVERHEAD: usize = 64;

/// The server's side of one connection.
pub struct Session {
    connection: UnbufferedServerConnection,
    /// What came and is no whole record yet.
    rest: Vec<u8>,
    /// Records that the socket has yet to take, the first `sent` bytes of which it has.
    pending: Vec<u8>,
    sent: usize,
    /// Whether the client has closed its side.
    is_over: bool,
    /// Whether we have closed ours.
    is_closed: bool,
    /// Whether it has failed. rustls is not to be asked again then: it would judge what is left of the input once more.
    is_broken: bool,
}

/// What is to be encrypted, once that is possible.
enum Seal<'a> {
    Nothing,
    Data(&'a [u8]),
    CloseNotify,
}

impl Session {
    /// Waits for a client's hello.
    pub fn new(config: Arc<ServerConfig>) -> Result<Self, TlsError> {
        Ok(Self {
            connection: UnbufferedServerConnection::new(config)?,
            rest: Vec::new(),
            pending: Vec::new(),
            sent: 0,
            is_over: false,
            is_closed: false,
            is_broken: false,
        })
    }

    /// Takes bytes that came, which are overwritten, and appends what they hold to `opened`. Answers of the protocol itself, and
    /// the alert that goes with an error, wait to be flushed.
    pub fn receive(&mut self, fresh: &mut [u8], opened: &mut Vec<u8>) -> Result<(), TlsError> {
        if self.is_over {
            return Ok(());
        }
        let mut rest = mem::take(&mut self.rest);
        if rest.is_empty() {
            let used = self.run(fresh, opened, Seal::Nothing)?;
            rest = fresh[used..].to_vec();
        } else {
            rest.extend_from_slice(fresh);
            let used = self.run(&mut rest, opened, Seal::Nothing)?;
            rest.drain(..used);
            rest.shrink_to_fit();
        }
        if self.is_over {
            // What comes behind the client's last word means nothing.
            return Ok(());
        }
        if rest.len() > MAX_REST {
            self.is_broken = true;
            return Err(TlsError::TooLong);
        }
        self.rest = rest;
        Ok(())
    }

    /// Encrypts these bytes, to be flushed. The handshake must be over, and our side not closed.
    pub fn seal(&mut self, plain: &[u8]) -> Result<(), TlsError> {
        if self.is_closed {
            return Err(TlsError::Closed);
        }
        self.run_for(Seal::Data(plain))
    }

    /// Says once that nothing follows, to be flushed.
    pub fn close(&mut self) -> Result<(), TlsError> {
        if mem::replace(&mut self.is_closed, true) {
            return Ok(());
        }
        self.run_for(Seal::CloseNotify)
    }

    /// Whether we have said, or tried to say, that nothing follows.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Whether the client has said that nothing follows.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether the handshake is under way.
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Whether something waits to be flushed.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Writes what waits, until nothing does or `write` fails: with [`io::ErrorKind::WouldBlock`] when the socket is full.
    pub fn flush(&mut self, mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<()> {
        while self.sent < self.pending.len() {
            match write(&self.pending[self.sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.pending = Vec::new();
        self.sent = 0;
        Ok(())
    }

    /// Bytes that its buffers hold.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.rest.capacity() + self.pending.capacity()
    }

    /// Encrypts with nothing new at hand.
    fn run_for(&mut self, seal: Seal<'_>) -> Result<(), TlsError> {
        // The protocol refers to what it has seen of an incomplete message: it has to be there in every call.
        let mut rest = mem::take(&mut self.rest);
        let ran = self.run(&mut rest, &mut Vec::new(), seal);
        let used = ran.as_ref().map_or(0, |used| *used);
        rest.drain(..used);
        self.rest = rest;
        ran.map(drop)
    }

    /// Runs the protocol until it needs more of the client, and returns how much of the input it is done with.
    fn run(
        &mut self,
        input: &mut [u8],
        opened: &mut Vec<u8>,
        seal: Seal<'_>,
    ) -> Result<usize, TlsError> {
        if self.is_broken {
            return Err(TlsError::Closed);
        }
        let ran = self.process(input, opened, seal);
        self.is_broken = ran.is_err();
        ran
    }

    fn process(
        &mut self,
        input: &mut [u8],
        opened: &mut Vec<u8>,
        mut seal: Seal<'_>,
    ) -> Result<usize, TlsError> {
        let Self {
            connection,
            pending,
            is_over,
            ..
        } = self;
        let mut used = 0;
        let mut fault = None;
        // With a fault only what it left to be sent is taken: the alert.
        while fault.is_none() || connection.wants_write() {
            let UnbufferedStatus { discard, state, .. } =
                connection.process_tls_records(&mut input[used..]);
            used += discard;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        used += record.discard;
                        opened.extend_from_slice(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(pending, 0, |out| data.encode(out).map_err(|e| encoding(&e)))?;
                }
                // It is in `pending`, in front of whatever comes.
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => *is_over = true,
                Ok(ConnectionState::WriteTraffic(traffic)) if !matches!(seal, Seal::Nothing) => {
                    mem::replace(&mut seal, Seal::Nothing).put(traffic, pending)?;
                }
                Err(error) if fault.is_none() => fault = Some(error),
                Ok(_) | Err(_) => break,
            }
        }
        match (fault, seal) {
            (Some(error), _) => Err(error.into()),
            (None, Seal::Data(_)) => Err(TlsError::Closed),
            (None, Seal::Nothing | Seal::CloseNotify) => Ok(used),
        }
    }
}

impl Seal<'_> {
    fn put(
        self,
        mut traffic: WriteTraffic<'_, ServerConnectionData>,
        pending: &mut Vec<u8>,
    ) -> Result<(), rustls::Error> {
        match self {
            Self::Nothing => Ok(()),
            Self::Data(plain) => append(pending, sealed_len(plain.len()), |out| {
                traffic.encrypt(plain, out).map_err(|e| encrypting(&e))
            }),
            Self::CloseNotify => append(pending, OVERHEAD, |out| {
                traffic.queue_close_notify(out).map_err(|e| encrypting(&e))
            }),
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("rest", &self.rest.len())
            .field("pending", &self.pending.len())
            .finish_non_exhaustive()
    }
}

/// Bytes that are needed; nothing if no number of them helps.
type Needed = Option<usize>;

/// Appends what `put` writes into the room that it is given, first of `room` bytes, then of as many as it asks for.
fn append(
    out: &mut Vec<u8>,
    mut room: usize,
    mut put: impl FnMut(&mut [u8]) -> Result<usize, Needed>,
) -> Result<(), rustls::Error> {
    let start = out.len();
    loop {
        out.resize(start + room, 0);
        match put(&mut out[start..]) {
            Ok(len) => {
                out.truncate(start + len);
                return Ok(());
            }
            Err(Some(needed)) if needed > room => room = needed,
            Err(_) => {
                out.truncate(start);
                return Err(rustls::Error::EncryptError);
            }
        }
    }
}

fn encoding(error: &EncodeError) -> Needed {
    match error {
        EncodeError::InsufficientSize(size) => Some(size.required_size),
        EncodeError::AlreadyEncoded => None,
    }
}

fn encrypting(error: &EncryptError) -> Needed {
    match error {
        EncryptError::InsufficientSize(size) => Some(size.required_size),
        EncryptError::EncryptExhausted => None,
    }
}

/// What these plain bytes become at most.
fn sealed_len(plain: usize) -> usize {
    plain + (plain / RECORD + 1) * OVERHEAD
}
