//! The traits of `embedded-io` for the console and, with `smoltcp`, for TCP.

use core::convert::Infallible;

use embedded_io::{ErrorType, Read, Write};

use super::{clock, console, wait};

/// Time between two looks for what was typed, in nanoseconds.
const LOOK: u64 = 20_000_000;

/// The console as a stream. Reading waits until something is typed, and never ends; what nobody
/// takes of what is written is lost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Console;

impl ErrorType for Console {
    type Error = Infallible;
}

impl Read for Console {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Infallible> {
        while !into.is_empty() {
            let count = console::read(into);
            if count > 0 {
                return Ok(count);
            }
            wait::any(clock::now() + LOOK);
        }
        Ok(0)
    }
}

impl Write for Console {
    fn write(&mut self, from: &[u8]) -> Result<usize, Infallible> {
        console::write(from);
        Ok(from.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        console::drain();
        Ok(())
    }
}

#[cfg(feature = "smoltcp")]
pub use stream::{Broken, Stream};

#[cfg(feature = "smoltcp")]
mod stream {
    use core::fmt;

    use embedded_io::{Error, ErrorKind, ErrorType, Read, Write};
    use smoltcp::iface::SocketHandle;
    use smoltcp::socket::tcp::{Socket, State};

    use crate::net;
    use crate::runtime::network::Network;

    /// Why a stream does not go on.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Broken {
        /// The network card.
        Card(net::Error),
        /// The connection has ended, or there never was one.
        Closed,
    }

    impl fmt::Display for Broken {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Self::Card(why) => why.fmt(f),
                Self::Closed => f.write_str("the connection has ended"),
            }
        }
    }

    impl core::error::Error for Broken {}

    impl Error for Broken {
        fn kind(&self) -> ErrorKind {
            match self {
                Self::Card(_) => ErrorKind::Other,
                Self::Closed => ErrorKind::NotConnected,
            }
        }
    }

    impl From<net::Error> for Broken {
        fn from(why: net::Error) -> Self {
            Self::Card(why)
        }
    }

    /// A TCP connection as a stream: for guests that serve one peer at a time. Reading and writing
    /// wait, for a connection first; all other sockets of the network go on meanwhile.
    #[derive(Debug)]
    pub struct Stream<'n> {
        network: &'n mut Network,
        handle: SocketHandle,
    }

    impl Network {
        /// One of the sockets as a stream.
        pub const fn stream(&mut self, handle: SocketHandle) -> Stream<'_> {
            Stream {
                network: self,
                handle,
            }
        }
    }

    impl Stream<'_> {
        /// Waits until `done` has an answer of the connected socket.
        fn when<T>(
            &mut self,
            mut done: impl FnMut(&mut Socket<'static>) -> Option<Result<T, Broken>>,
        ) -> Result<T, Broken> {
            loop {
                self.network.poll()?;
                let socket = self.network.socket(self.handle);
                let coming = matches!(
                    socket.state(),
                    State::Listen | State::SynSent | State::SynReceived
                );
                if !coming && let Some(result) = done(socket) {
                    // What the answer has put into the socket, or made room for, is on its way.
                    self.network.poll()?;
                    return result;
                }
                self.network.wait()?;
            }
        }
    }

    impl ErrorType for Stream<'_> {
        type Error = Broken;
    }

    impl Read for Stream<'_> {
        fn read(&mut self, into: &mut [u8]) -> Result<usize, Broken> {
            if into.is_empty() {
                return Ok(0);
            }
            self.when(|socket| {
                if socket.can_recv() {
                    return Some(socket.recv_slice(into).map_err(|_| Broken::Closed));
                }
                // The peer says no more.
                (!socket.may_recv()).then_some(Ok(0))
            })
        }
    }

    impl Write for Stream<'_> {
        fn write(&mut self, from: &[u8]) -> Result<usize, Broken> {
            if from.is_empty() {
                return Ok(0);
            }
            self.when(|socket| {
                if socket.can_send() {
                    return Some(socket.send_slice(from).map_err(|_| Broken::Closed));
                }
                (!socket.may_send()).then_some(Err(Broken::Closed))
            })
        }

        fn flush(&mut self) -> Result<(), Broken> {
            self.when(|socket| match socket.send_queue() {
                0 => Some(Ok(())),
                _ if !socket.is_open() => Some(Err(Broken::Closed)),
                _ => None,
            })
        }
    }
}
