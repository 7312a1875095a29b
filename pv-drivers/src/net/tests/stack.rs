//! Two guests with `smoltcp`, each on a card of ours, each served by a backend of ours: a network
//! of nothing else.

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::Device;
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};

use super::super::phy::Phy;
use super::*;

/// One guest with one TCP socket.
struct Guest {
    phy: Phy<Domain>,
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
}

impl Guest {
    fn new(machine: &Machine, options: Options, host: u8) -> Self {
        let card = connected(machine, options);
        let mut phy = Phy::new(card).unwrap();
        let config = Config::new(EthernetAddress([2, 0, 0, 0, 0, host]).into());
        let mut interface = Interface::new(config, &mut phy, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            let address = IpCidr::new(IpAddress::v4(10, 0, 0, host), 24);
            addresses.push(address).unwrap();
        });
        let buffer = || tcp::SocketBuffer::new(vec![0; 100_000]);
        let mut sockets = SocketSet::new(Vec::new());
        let socket = sockets.add(tcp::Socket::new(buffer(), buffer()));
        Self {
            phy,
            interface,
            sockets,
            socket,
        }
    }

    fn poll(&mut self, now: i64) {
        self.phy.card().poll().unwrap();
        let now = Instant::from_millis(now);
        self.interface.poll(now, &mut self.phy, &mut self.sockets);
        assert_eq!(self.phy.error(), None);
    }

    fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.socket)
    }
}

/// Carries frames from one cable to the other; tells the longest.
fn carry(from: &Cable, to: &Cable) -> usize {
    let mut longest = 0;
    while let Some((frame, offload)) = from.taken() {
        longest = longest.max(frame.len());
        let integrity = if offload.checksum {
            Integrity::Blank
        } else {
            // Whoever made it, made it right.
            assert!(checksum::is_right(&frame));
            Integrity::Unknown
        };
        to.bring(
            frame,
            Received {
                integrity,
                segment: offload.segment,
            },
        );
    }
    longest
}

/// Moves so many bytes from one guest to the other; returns the longest frame.
fn transfer(options: [Options; 2], bytes: usize) -> usize {
    let rigs = [rig(2), rig(2)];
    let mut guests: Vec<Guest> = rigs
        .iter()
        .zip(options)
        .zip(1..)
        .map(|(((machine, ..), options), host)| Guest::new(machine, options, host))
        .collect();
    guests[1].socket().listen(80).unwrap();
    let there = (IpAddress::v4(10, 0, 0, 2), 80);
    let Guest {
        interface,
        sockets,
        socket,
        ..
    } = &mut guests[0];
    let socket = sockets.get_mut::<tcp::Socket<'_>>(*socket);
    socket.connect(interface.context(), there, 50_000).unwrap();
    let (mut sent, mut got, mut longest) = (0, 0, 0);
    let pattern = |n: usize| (n % 251) as u8;
    for now in 0..100_000 {
        let client = guests[0].socket();
        while sent < bytes && client.can_send() {
            let chunk: Vec<u8> = (sent..bytes.min(sent + 5000)).map(pattern).collect();
            sent += client.send_slice(&chunk).unwrap();
        }
        for (guest, (_, back, _)) in guests.iter_mut().zip(&rigs) {
            guest.poll(now);
            back.lock().unwrap().poll().unwrap();
        }
        let (one, other) = (&rigs[0].2, &rigs[1].2);
        longest = longest.max(carry(one, other)).max(carry(other, one));
        let server = guests[1].socket();
        while server.can_recv() {
            let count = server
                .recv(|data| {
                    let right = (got..).zip(&*data).all(|(n, byte)| *byte == pattern(n));
                    assert!(right, "wrong bytes after {got}");
                    (data.len(), data.len())
                })
                .unwrap();
            got += count;
        }
        if got == bytes {
            return longest;
        }
    }
    panic!("only {got} of {bytes} bytes came");
}

#[test]
#[cfg_attr(miri, ignore = "slow, and nothing here is unsafe")]
fn a_stream_arrives_whole_in_long_frames() {
    let longest = transfer([options(), options()], 3_000_000);
    assert!(longest > 20_000, "segments were not left to the backend");
}

#[test]
#[cfg_attr(miri, ignore = "slow, and nothing here is unsafe")]
fn a_stream_arrives_whole_over_few_pages_and_several_queues() {
    let few = Options {
        receive_pages: 20,
        queues: 2,
        ..options()
    };
    transfer([few, options()], 500_000);
}

#[test]
fn a_frame_with_a_wrong_checksum_is_dropped() {
    let (machine, back, cable) = rig(1);
    let mut phy = Phy::new(connected(&machine, options())).unwrap();
    // UDP on IPv4, eight bytes of header, checksum 1.
    let mut wrong = frame(42, 0);
    wrong[14..34].copy_from_slice(&[
        0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ]);
    wrong[34..42].copy_from_slice(&[0, 1, 0, 2, 0, 8, 0, 1]);
    let mut right = wrong.clone();
    assert!(checksum::complete(&mut right));
    cable.bring(wrong.clone(), Received::default());
    cable.bring(right, Received::default());
    let blank = Received {
        integrity: Integrity::Blank,
        segment: None,
    };
    cable.bring(wrong, blank);
    back.lock().unwrap().poll().unwrap();
    assert!(phy.receive(Instant::ZERO).is_some());
    assert!(phy.receive(Instant::ZERO).is_some());
    assert!(phy.receive(Instant::ZERO).is_none());
    assert_eq!(phy.wrong_checksums(), 1);
}
