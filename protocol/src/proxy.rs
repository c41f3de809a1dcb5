//! The PROXY protocol, versions 1 and 2: what a balancer puts in front of a connection to say who its client is.
//!
//! It is read step by step and never beyond its end, so that whatever comes behind it stays where it is: see [`step`].

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// How version 2 begins. No protocol of text begins so.
const V2: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// How version 1 begins.
const V1: &[u8] = b"PROXY ";

/// Of version 2: the signature, what it is, the family and the length of the rest.
const V2_HEAD: usize = 16;
/// The shortest line of version 1, `PROXY UNKNOWN`, with its end.
const V1_MIN: usize = 15;
/// The longest one, with its end.
const V1_MAX: usize = 107;

/// What is known after some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// So many more bytes belong to the header for certain, and there may be more behind them.
    More(usize),
    /// The header has ended. The client's address, if it says one: a balancer that asks for a sign of life, or that has its client
    /// by other means than TCP, says none.
    Done(Option<SocketAddr>),
}

/// A header that is none, or beyond its bound. The balancer is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// The first bytes are those of neither version.
    #[error("no header of the PROXY protocol")]
    None,
    /// It does not end within the bound.
    #[error("the header is over the limit of {0} bytes")]
    TooLong(usize),
    /// Version 1: the line is not as it should be.
    #[error("the line of version 1 is malformed")]
    Line,
    /// Version 2: another version, or a command that does not exist.
    #[error("version 2: not a known version and command: {0:#04x}")]
    Command(u8),
    /// Version 2: too short for its addresses.
    #[error("version 2: {0} bytes are too few for the addresses")]
    Addresses(usize),
}

/// Judges the bytes that have come, from the first one on. Whoever reads exactly as many bytes as each [`Step::More`] says has
/// the header and nothing of what comes behind it. A header of version 2 has at most `max` bytes; one of version 1 is a line of
/// at most 107.
pub fn step(bytes: &[u8], max: usize) -> Result<Step, ProxyError> {
    let known = bytes.len().min(V2.len());
    if bytes[..known] == V2[..known] {
        return step_v2(bytes, max);
    }
    let known = bytes.len().min(V1.len());
    if bytes[..known] == V1[..known] {
        return step_v1(bytes);
    }
    Err(ProxyError::None)
}

fn step_v1(bytes: &[u8]) -> Result<Step, ProxyError> {
    let line = &bytes[..bytes.len().min(V1_MAX)];
    if let Some(end) = line.windows(2).position(|two| two == b"\r\n") {
        return source_v1(&line[..end]).map(Step::Done);
    }
    if bytes.len() >= V1_MAX {
        return Err(ProxyError::TooLong(V1_MAX));
    }
    let end = if bytes.ends_with(b"\r") { 1 } else { 2 };
    Ok(Step::More(V1_MIN.saturating_sub(bytes.len()).max(end)))
}

/// The client of a line without its end.
fn source_v1(line: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
    let line = core::str::from_utf8(line).map_err(|_| ProxyError::Line)?;
    let mut words = line.split(' ');
    let mut word = || words.next().ok_or(ProxyError::Line);
    word()?;
    let family = word()?;
    // Whatever follows is to be ignored.
    if family == "UNKNOWN" {
        return Ok(None);
    }
    let addresses = [word()?, word()?];
    let ports = [port(word()?)?, port(word()?)?];
    if words.next().is_some() {
        return Err(ProxyError::Line);
    }
    let [source, _] = match family {
        "TCP4" => both(addresses.map(|text| text.parse::<Ipv4Addr>().ok()))?,
        "TCP6" => both(addresses.map(|text| text.parse::<Ipv6Addr>().ok()))?,
        _ => return Err(ProxyError::Line),
    };
    Ok(Some(client(source, ports[0])))
}

/// The source and the destination, if both are addresses.
fn both<A: Into<IpAddr>>(addresses: [Option<A>; 2]) -> Result<[IpAddr; 2], ProxyError> {
    match addresses {
        [Some(source), Some(destination)] => Ok([source.into(), destination.into()]),
        _ => Err(ProxyError::Line),
    }
}

/// Digits alone: the standard library takes a sign too.
fn port(text: &str) -> Result<u16, ProxyError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or(ProxyError::Line)
}

fn step_v2(bytes: &[u8], max: usize) -> Result<Step, ProxyError> {
    let Some((head, rest)) = bytes.split_first_chunk::<V2_HEAD>() else {
        // The signature first: a shorter stranger is told by it.
        let until = if bytes.len() < V2.len() {
            V2.len()
        } else {
            V2_HEAD
        };
        return Ok(Step::More(until - bytes.len()));
    };
    let is_proxied = match head[12] {
        0x20 => false,
        0x21 => true,
        other => return Err(ProxyError::Command(other)),
    };
    let len = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if V2_HEAD + len > max {
        return Err(ProxyError::TooLong(max));
    }
    if rest.len() < len {
        return Ok(Step::More(len - rest.len()));
    }
    if !is_proxied {
        return Ok(Step::Done(None));
    }
    source_v2(head[13], &rest[..len]).map(Step::Done)
}

/// The client in what follows the head. The extensions behind the addresses are not looked at.
fn source_v2(family: u8, rest: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
    let short = || ProxyError::Addresses(rest.len());
    match family {
        // TCP over IPv4: source, destination, their ports.
        0x11 => {
            let addresses = rest.first_chunk::<12>().ok_or_else(short)?;
            let [a, b, c, d, _, _, _, _, high, low, ..] = *addresses;
            let port = u16::from_be_bytes([high, low]);
            Ok(Some(client(Ipv4Addr::new(a, b, c, d).into(), port)))
        }
        // TCP over IPv6.
        0x21 => {
            let addresses = rest.first_chunk::<36>().ok_or_else(short)?;
            let source = addresses.first_chunk::<16>().ok_or_else(short)?;
            let port = u16::from_be_bytes([addresses[32], addresses[33]]);
            Ok(Some(client(Ipv6Addr::from(*source).into(), port)))
        }
        // No family, Unix, UDP or one of the future: by the specification the connection counts as the balancer's own.
        _ => Ok(None),
    }
}

/// An IPv4 client is one also where the balancer writes its address as one of IPv6.
fn client(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_canonical(), port)
}
