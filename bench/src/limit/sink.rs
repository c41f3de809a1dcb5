//! The receiver of the bare loop: reads and throws away.

use std::{
    io::{self, Read as _},
    net::SocketAddr,
};

use clap::Args;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Socket, Type};

use crate::clients;

/// From whom, and how much.
#[derive(Debug, Clone, Copy, Args)]
pub struct SinkArgs {
    /// Where to connect.
    #[arg(long)]
    from: SocketAddr,
    /// How often.
    #[arg(long)]
    connections: u32,
}

/// Connects, and reads until all connections have ended.
pub fn discard(args: &SinkArgs) -> anyhow::Result<()> {
    let mut poll = Poll::new()?;
    let mut sockets = Vec::new();
    for number in 0..args.connections {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        if let Some(source) = clients::source(args.from, number) {
            socket.bind(&source.into())?;
        }
        socket.connect(&args.from.into())?;
        socket.set_nonblocking(true)?;
        let mut socket = mio::net::TcpStream::from_std(socket.into());
        poll.registry()
            .register(&mut socket, Token(number as usize), Interest::READABLE)?;
        sockets.push(socket);
    }
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; 256 << 10];
    let mut open = sockets.len();
    while open > 0 {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            if let Some(socket) = sockets.get_mut(event.token().0) {
                open -= usize::from(has_ended(socket, &mut buffer));
            }
        }
    }
    Ok(())
}

/// Reads what is there; whether nothing more comes.
fn has_ended(socket: &mut mio::net::TcpStream, buffer: &mut [u8]) -> bool {
    loop {
        match socket.read(buffer) {
            Ok(0) => return true,
            Ok(len) if len < buffer.len() => return false,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return true,
        }
    }
}
