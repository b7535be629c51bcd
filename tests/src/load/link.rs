//! One client's TCP connection: bytes in and out, without waiting.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

/// Connections from one address, before the next is used: a client's port is one of 28,000.
const FROM_ONE_ADDRESS: u64 = 10_000;

/// How far a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The TCP handshake runs.
    Connecting,
    /// CONNECT was sent.
    Greeting,
    /// SUBSCRIBE was sent.
    Subscribing,
    /// All that the session needs was answered.
    Ready,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Link {
    socket: OwnedFd,
    /// How far the client is.
    pub(crate) phase: Phase,
    /// The start of a packet whose rest has not come.
    pub(crate) partial: Vec<u8>,
    /// What is to be written.
    pub(crate) out: Vec<u8>,
    /// The client is in the list of those with something to write.
    pub(crate) is_dirty: bool,
    /// The kernel took less than all, and tells when it takes more.
    pub(crate) is_blocked: bool,
    /// A ping has no answer yet.
    pub(crate) is_pinging: bool,
    /// The broker said that it had kept the session.
    pub(crate) was_kept: bool,
}

impl Link {
    /// Begins to connect; `number` counts connections, and chooses the address that it comes from.
    pub(crate) fn open(to: SocketAddrV4, number: u64) -> io::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        let block = (number / FROM_ONE_ADDRESS % 250) as u8;
        if block > 0 {
            let from = Ipv4Addr::new(127, 0, 0, 1 + block);
            net::bind(&socket, &SocketAddrV4::new(from, 0))?;
        }
        sockopt::set_tcp_nodelay(&socket, true)?;
        match net::connect(&socket, &to) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(refused) => return Err(refused.into()),
        }
        Ok(Self {
            socket,
            phase: Phase::Connecting,
            partial: Vec::new(),
            out: Vec::new(),
            is_dirty: false,
            is_blocked: false,
            is_pinging: false,
            was_kept: false,
        })
    }

    /// Tells how the TCP handshake ended.
    pub(crate) fn connected(&self) -> io::Result<()> {
        Ok(sockopt::socket_error(&self.socket)??)
    }

    /// Reads what is there; zero bytes are the end of the connection.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(&self.socket, buffer)?)
    }

    /// Writes what the kernel takes; tells whether that was all.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        let mut written = 0;
        while written < self.out.len() {
            match rustix::io::write(&self.socket, &self.out[written..]) {
                Ok(count) => written += count,
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.out.drain(..written);
        if self.out.is_empty() && self.out.capacity() > 4096 {
            self.out = Vec::new();
        }
        Ok(self.out.is_empty())
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
