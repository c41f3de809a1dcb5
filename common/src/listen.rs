//! Listening sockets: the addresses that operators write, the sockets' options, who may reach an unauthenticated
//! service, and the loop that accepts.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// An address that cannot be listened on; the operator is at fault.
#[derive(Debug, thiserror::Error)]
pub enum BindAddressError {
    /// The text is no address.
    #[error(
        "{text:?} is no address to listen on: expected \":3101\", \"127.0.0.1:3101\", \"[::1]:3101\" or \"localhost:3101\""
    )]
    Syntax {
        /// What was written.
        text: String,
    },
    /// The host's name is not known.
    #[error("the host of {text:?} is not known: {reason}")]
    Host {
        /// What was written.
        text: String,
        /// What the resolver said.
        reason: String,
    },
}

/// Reads an address to listen on: goim's `:3101` for all interfaces, `127.0.0.1:0`, `[::1]:80`, `localhost:3101`.
///
/// All interfaces are `[::]`, which takes IPv4 too, or `0.0.0.0` where IPv6 is off. A host name is resolved at once, by
/// a call that blocks; of its addresses an IPv4 one is preferred, as goim does.
pub fn parse_bind(text: &str) -> Result<SocketAddr, BindAddressError> {
    if let Ok(addr) = text.parse() {
        return Ok(addr);
    }
    let syntax = || BindAddressError::Syntax { text: text.into() };
    let (host, port) = text.rsplit_once(':').ok_or_else(syntax)?;
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let port: u16 = port.parse().ok().filter(|_| digits).ok_or_else(syntax)?;
    if host.is_empty() {
        return Ok(SocketAddr::new(all_interfaces(), port));
    }
    // A bare IPv6 address would have to be guessed apart from its port.
    if host.contains([':', '[', ']', '/', ' ']) {
        return Err(syntax());
    }
    resolve(text, host, port)
}

/// How a listening socket behaves; accepted sockets inherit all but the backlog.
#[derive(Clone, Copy, Debug)]
pub struct ListenOptions {
    /// Connections that wait to be accepted; the system's own limit (`net.core.somaxconn`) caps it.
    pub backlog: u32,
    /// The send buffer in bytes; the system's choice when absent. Linux doubles it and has a lower limit.
    pub sndbuf: Option<usize>,
    /// The receive buffer in bytes; the system's choice when absent. Linux doubles it and has a lower limit.
    pub rcvbuf: Option<usize>,
    /// Whether TCP probes idle connections.
    pub keepalive: bool,
    /// After what time a connection is gone whose peer takes nothing of what it was sent, or does not say that it has it; the
    /// system's choice when absent, and elsewhere than on Linux.
    pub user_timeout: Option<Duration>,
}

impl Default for ListenOptions {
    /// Linux's own limit of waiting connections, and the system's buffers.
    fn default() -> Self {
        Self {
            backlog: 4096,
            sndbuf: None,
            rcvbuf: None,
            keepalive: false,
            user_timeout: None,
        }
    }
}

/// Listens on an address, without Nagle's delay on what is accepted.
///
/// `[::]` takes IPv4 too, and becomes `0.0.0.0` where IPv6 is off. Must be called within a tokio runtime. The error's
/// text names the address.
pub fn bind(addr: SocketAddr, options: &ListenOptions) -> io::Result<TcpListener> {
    let any_v6 = addr.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    open(addr, options)
        .or_else(|error| match error.kind() {
            io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => Err(error),
            _ if any_v6 && !ipv6_is_on() => open(
                SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), addr.port()),
                options,
            ),
            _ => Err(error),
        })
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {addr}: {error}")))
}

/// How a service knows who calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callers {
    /// It asks for a token or a certificate.
    Proven,
    /// It does not ask, and the operator allows that.
    Anyone,
    /// It does not ask: only this machine may call.
    Local,
}

impl Callers {
    /// Those of a service that asks for a proof or does not, and of its key `allowUnauthenticated`.
    pub const fn of(asks: bool, allow_unauthenticated: bool) -> Self {
        match (asks, allow_unauthenticated) {
            (true, _) => Self::Proven,
            (false, true) => Self::Anyone,
            (false, false) => Self::Local,
        }
    }
}

/// Where a service listens: as it should, or on the loopback address when it cannot tell who calls.
///
/// For [`Callers::Local`], an address that others can reach keeps its port and becomes `127.0.0.1`, or `::1` for one IPv6
/// address in particular, with a text that says so and how to change it. For [`Callers::Anyone`] it stays, and the text is a
/// warning. A loopback address, and callers that prove who they are, need no text.
pub fn guard(addr: SocketAddr, callers: Callers) -> (SocketAddr, Option<String>) {
    if callers == Callers::Proven || addr.ip().to_canonical().is_loopback() {
        return (addr, None);
    }
    if callers == Callers::Anyone {
        let text = format!(
            "ANYONE WHO CAN REACH {addr} CAN USE THIS SERVICE: it does not ask its callers who they are, and \
             allowUnauthenticated is true; only a private network may lead there"
        );
        return (addr, Some(text));
    }
    let loopback: IpAddr = match addr.ip() {
        IpAddr::V6(ip) if !ip.is_unspecified() && ip.to_ipv4_mapped().is_none() => {
            Ipv6Addr::LOCALHOST.into()
        }
        _ => Ipv4Addr::LOCALHOST.into(),
    };
    let moved = SocketAddr::new(loopback, addr.port());
    let text = format!(
        "listening on {moved} instead of {addr}, because this service does not ask its callers who they are: set \
         allowUnauthenticated = true for this listener if only a private network leads there"
    );
    (moved, Some(text))
}

/// Accepts connections until `shutdown` is cancelled, handing each to `serve`, which must not block. An IPv4 peer's address is
/// an IPv4 address, also where the listener is one of IPv6.
///
/// `on_error` is told of every failed accept. An error of one connection (it was aborted before it was accepted) does
/// not delay the next; any other, such as having no file descriptors left, is waited out: 10 ms, doubling to 1 s,
/// until an accept succeeds.
pub async fn accept_loop<F>(
    listener: TcpListener,
    shutdown: CancellationToken,
    on_error: impl Fn(&io::Error),
    mut serve: F,
) where
    F: FnMut(TcpStream, SocketAddr),
{
    let serve = |stream, peer: SocketAddr| {
        serve(
            stream,
            SocketAddr::new(peer.ip().to_canonical(), peer.port()),
        );
    };
    run_accepts(|cx| listener.poll_accept(cx), shutdown, on_error, serve).await;
}

/// [`accept_loop`] over any source of connections.
async fn run_accepts<C>(
    mut poll_accept: impl FnMut(&mut Context<'_>) -> Poll<io::Result<(C, SocketAddr)>>,
    shutdown: CancellationToken,
    on_error: impl Fn(&io::Error),
    mut serve: impl FnMut(C, SocketAddr),
) {
    let mut pause = FIRST_PAUSE;
    while let Some(accepted) = unless(&shutdown, poll_fn(&mut poll_accept)).await {
        match accepted {
            Ok((connection, peer)) => {
                pause = FIRST_PAUSE;
                serve(connection, peer);
            }
            Err(error) => {
                on_error(&error);
                if concerns_one_connection(&error) {
                    continue;
                }
                if unless(&shutdown, tokio::time::sleep(pause)).await.is_none() {
                    return;
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The future's result, or nothing once `shutdown` is cancelled.
async fn unless<T>(shutdown: &CancellationToken, future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        // A flood of connections must not keep the loop from ending.
        biased;
        () = shutdown.cancelled() => None,
        result = future => Some(result),
    }
}

/// Linux hands pending network errors of the new connection to accept; they say nothing about the listener.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    /// Protocol error: std has no kind for it.
    const EPROTO: i32 = 71;
    matches!(
        error.kind(),
        K::ConnectionAborted
            | K::ConnectionReset
            | K::ConnectionRefused
            | K::Interrupted
            | K::TimedOut
            | K::NetworkDown
            | K::NetworkUnreachable
            | K::HostUnreachable
    ) || error.raw_os_error() == Some(EPROTO)
}

fn resolve(text: &str, host: &str, port: u16) -> Result<SocketAddr, BindAddressError> {
    let unknown = |reason: String| BindAddressError::Host {
        text: text.into(),
        reason,
    };
    let found: Vec<SocketAddr> = (host, port)
        .to_socket_addrs()
        .map_err(|e| unknown(e.to_string()))?
        .collect();
    let v4 = found.iter().find(|addr| addr.is_ipv4());
    v4.or(found.first())
        .copied()
        .ok_or_else(|| unknown("it has no address".into()))
}

fn open(addr: SocketAddr, options: &ListenOptions) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // Lets a restarted process listen while old connections linger in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_keepalive(options.keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(options.user_timeout)?;
    // Before listen: a connection's window is settled by its handshake.
    if let Some(bytes) = options.sndbuf {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(bytes) = options.rcvbuf {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    TcpListener::from_std(socket.into())
}

fn all_interfaces() -> IpAddr {
    if ipv6_is_on() {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    }
}

/// Whether a socket of this machine can listen on `[::]` for IPv4 too.
fn ipv6_is_on() -> bool {
    static ON: OnceLock<bool> = OnceLock::new();
    *ON.get_or_init(|| {
        let try_it = || -> io::Result<()> {
            let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
            socket.set_only_v6(false)?;
            socket.bind(&SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0).into())
        };
        try_it().is_ok()
    })
}

#[cfg(test)]
mod tests;
