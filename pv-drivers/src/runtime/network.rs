//! TCP/IP on the guest's first network card, by `smoltcp`.

use alloc::vec;
use alloc::vec::Vec;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Address, Ipv4Cidr};

use super::{Guest, clock, wait};
use crate::net::phy::Phy;
use crate::net::{Card, Error, Options};

/// Bytes of each of a socket's two buffers: several of the longest frames, so that one is filled
/// while others are under way.
const BUFFER: usize = 256 << 10;

/// Longest sleep, in nanoseconds.
const LONGEST: u64 = 1_000_000_000;

/// The guest's network.
pub struct Network {
    phy: Phy<Guest>,
    interface: Interface,
    sockets: SocketSet<'static>,
    /// Of the next connection that begins here.
    port: u16,
}

/// Ports of connections that begin here (RFC 6335).
const PORTS: core::ops::RangeInclusive<u16> = 49152..=65535;

impl core::fmt::Debug for Network {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Network").field(&self.phy).finish()
    }
}

fn now() -> Instant {
    Instant::from_micros((clock::now() / 1000).cast_signed())
}

impl Network {
    /// Connects the card `device/vif/0`, with an address in a network of `prefix` bits.
    ///
    /// # Errors
    /// The card's.
    pub fn open(address: Ipv4Address, prefix: u8) -> Result<Self, Error> {
        let mut card = Card::open(Guest, "device/vif/0", Options::default())?;
        card.connect()?;
        let hardware = EthernetAddress(card.address()?);
        let mut phy = Phy::new(card)?;
        let mut config = Config::new(hardware.into());
        config.random_seed = clock::tsc();
        let mut interface = Interface::new(config, &mut phy, now());
        interface.update_ip_addrs(|addresses| {
            // There is room for one.
            let _ = addresses.push(IpCidr::Ipv4(Ipv4Cidr::new(address, prefix)));
        });
        Ok(Self {
            phy,
            interface,
            sockets: SocketSet::new(Vec::new()),
            port: *PORTS.start(),
        })
    }

    /// A new TCP socket.
    pub fn tcp(&mut self) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
        self.sockets.add(tcp::Socket::new(buffer(), buffer()))
    }

    /// Begins a connection to a server.
    ///
    /// # Errors
    /// The socket is in use, or the address or port is 0.
    pub fn connect(
        &mut self,
        handle: SocketHandle,
        server: Ipv4Address,
        port: u16,
    ) -> Result<(), tcp::ConnectError> {
        let own = self.port;
        self.port = own.checked_add(1).unwrap_or(*PORTS.start());
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
        socket.connect(self.interface.context(), (server, port), own)
    }

    /// Ends a socket at once; the other end is told if it is reached.
    ///
    /// # Panics
    /// If the handle is of another network.
    pub fn remove(&mut self, handle: SocketHandle) {
        self.socket(handle).abort();
        self.interface.poll(now(), &mut self.phy, &mut self.sockets);
        self.sockets.remove(handle);
    }

    /// One of the sockets.
    ///
    /// # Panics
    /// If the handle is of another network.
    pub fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Moves frames between card and sockets.
    ///
    /// # Errors
    /// The card's: its backend misbehaved, or has gone.
    pub fn poll(&mut self) -> Result<(), Error> {
        self.phy.card().poll()?;
        self.interface.poll(now(), &mut self.phy, &mut self.sockets);
        match self.phy.error() {
            Some(why) => Err(why),
            None => Ok(()),
        }
    }

    /// Sleeps until there may be something to do, here or on any other channel.
    ///
    /// # Errors
    /// As [`poll`](Self::poll).
    pub fn wait(&mut self) -> Result<(), Error> {
        let delay = self.interface.poll_delay(now(), &self.sockets);
        let delay = delay.map_or(LONGEST, |delay| delay.total_micros() * 1000);
        if delay > 0 && !self.phy.card().arm()? {
            wait::any(clock::now() + delay.min(LONGEST));
        }
        Ok(())
    }
}
