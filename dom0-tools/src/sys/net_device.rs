//! Network interfaces of dom0: bridges, addresses, flags.
#![allow(unsafe_code, reason = "ioctls")]

use std::ffi::c_char;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A socket through which interfaces are changed.
#[derive(Debug)]
pub struct NetControl {
    socket: OwnedFd,
}

// Not in `libc`. Source: Linux `include/uapi/linux/sockios.h`.
const SIOCBRADDIF: libc::c_ulong = 0x89a2;
const SIOCBRDELIF: libc::c_ulong = 0x89a3;

/// `struct ifreq`: a name, and 24 bytes whose meaning is the call's.
#[repr(C, align(8))]
struct Request {
    name: [c_char; libc::IFNAMSIZ],
    value: [u8; 24],
}

const _: () = assert!(
    size_of::<Request>() == size_of::<libc::ifreq>(),
    "struct ifreq"
);

impl Request {
    fn new(name: &str) -> io::Result<Self> {
        let bytes = name.as_bytes();
        if bytes.is_empty() || bytes.len() >= libc::IFNAMSIZ || bytes.contains(&0) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut request = Self {
            name: [0; libc::IFNAMSIZ],
            value: [0; 24],
        };
        for (to, from) in request.name.iter_mut().zip(bytes) {
            *to = from.cast_signed();
        }
        Ok(request)
    }

    fn word(&self) -> i32 {
        let [a, b, c, d, ..] = self.value;
        i32::from_ne_bytes([a, b, c, d])
    }

    fn set_word(&mut self, word: i32) {
        self.value[..4].copy_from_slice(&word.to_ne_bytes());
    }
}

impl NetControl {
    /// Opens the socket.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> io::Result<Self> {
        // SAFETY: plain numbers.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given it to us alone.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { socket })
    }

    fn call(&self, number: libc::c_ulong, request: &mut Request) -> io::Result<()> {
        // SAFETY: every call of this module reads and writes a `struct ifreq` at most, and none
        // of them takes a pointer in it.
        match unsafe { libc::ioctl(self.socket.as_raw_fd(), number, std::ptr::from_mut(request)) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Number of an interface.
    ///
    /// # Errors
    /// `ENODEV`: there is none of that name.
    pub fn index(&self, name: &str) -> io::Result<i32> {
        let mut request = Request::new(name)?;
        self.call(libc::SIOCGIFINDEX, &mut request)?;
        Ok(request.word())
    }

    /// Makes an interface a port of a bridge.
    ///
    /// # Errors
    /// `EBUSY`: it is one of another already. `EOPNOTSUPP`: `bridge` is none.
    pub fn bridge_add(&self, bridge: &str, interface: &str) -> io::Result<()> {
        self.bridge_port(SIOCBRADDIF, bridge, interface)
    }

    /// Takes a port from a bridge.
    ///
    /// # Errors
    /// `EINVAL`: it is none of it.
    pub fn bridge_remove(&self, bridge: &str, interface: &str) -> io::Result<()> {
        self.bridge_port(SIOCBRDELIF, bridge, interface)
    }

    fn bridge_port(&self, number: libc::c_ulong, bridge: &str, interface: &str) -> io::Result<()> {
        let index = self.index(interface)?;
        let mut request = Request::new(bridge)?;
        request.set_word(index);
        self.call(number, &mut request)
    }

    /// Lets an interface work, or not.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_up(&self, name: &str, up: bool) -> io::Result<()> {
        let mut request = Request::new(name)?;
        self.call(libc::SIOCGIFFLAGS, &mut request)?;
        let [a, b, ..] = request.value;
        let flags = i16::from_ne_bytes([a, b]);
        let up_flag = libc::IFF_UP as i16;
        let flags = if up {
            flags | up_flag
        } else {
            flags & !up_flag
        };
        request.value[..2].copy_from_slice(&flags.to_ne_bytes());
        self.call(libc::SIOCSIFFLAGS, &mut request)
    }

    /// Longest packet without its header, bytes.
    ///
    /// # Errors
    /// The kernel's.
    pub fn mtu(&self, name: &str) -> io::Result<i32> {
        let mut request = Request::new(name)?;
        self.call(libc::SIOCGIFMTU, &mut request)?;
        Ok(request.word())
    }

    /// Sets what [`NetControl::mtu`] says.
    ///
    /// # Errors
    /// `EINVAL`: the interface cannot.
    pub fn set_mtu(&self, name: &str, bytes: i32) -> io::Result<()> {
        let mut request = Request::new(name)?;
        request.set_word(bytes);
        self.call(libc::SIOCSIFMTU, &mut request)
    }

    /// Another name for an interface that is not up.
    ///
    /// # Errors
    /// `EEXIST`: there is one of that name. `EBUSY`: it is up.
    pub fn rename(&self, name: &str, new: &str) -> io::Result<()> {
        let mut request = Request::new(name)?;
        let target = Request::new(new)?;
        for (to, from) in request.value.iter_mut().zip(target.name) {
            *to = from.cast_unsigned();
        }
        self.call(libc::SIOCSIFNAME, &mut request)
    }

    /// Sets an Ethernet address.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_mac(&self, name: &str, mac: [u8; 6]) -> io::Result<()> {
        let mut request = Request::new(name)?;
        request.value[..2].copy_from_slice(&libc::ARPHRD_ETHER.to_ne_bytes());
        request.value[2..8].copy_from_slice(&mac);
        self.call(libc::SIOCSIFHWADDR, &mut request)
    }
}

// Sources: Linux `include/uapi/linux/{rtnetlink,if_link,if_bridge}.h`.
const AF_SPEC: u16 = 26;
const BRIDGE_VLAN_INFO: u16 = 2;
const VLAN_PVID_UNTAGGED: u16 = 2 | 4;
const VLAN_RANGE_BEGIN: u16 = 8;
const VLAN_RANGE_END: u16 = 16;
/// All that there are.
const ALL_VLANS: [(u16, u16); 2] = [(VLAN_RANGE_BEGIN, 1), (VLAN_RANGE_END, 4094)];

impl NetControl {
    /// Makes a bridge's port a member of one VLAN, untagged, and of no other.
    ///
    /// # Errors
    /// The kernel's; `EOPNOTSUPP` for what is no port of a bridge.
    pub fn set_port_vlan(&self, name: &str, vlan: u16) -> io::Result<()> {
        let index = self.index(name)?;
        // Of which one a new port is a member, the bridge says (`default_pvid`).
        netlink(&vlan_message(libc::RTM_DELLINK, index, &ALL_VLANS))?;
        let own = [(VLAN_PVID_UNTAGGED, vlan)];
        netlink(&vlan_message(libc::RTM_SETLINK, index, &own))
    }
}

/// `nlmsghdr`, `ifinfomsg`, and `IFLA_AF_SPEC` with a `struct bridge_vlan_info` for each pair of
/// flags and VLAN.
fn vlan_message(kind: u16, index: i32, vlans: &[(u16, u16)]) -> Vec<u8> {
    let request = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
    let mut spec = Vec::new();
    for &(flags, vlan) in vlans {
        for word in [8, BRIDGE_VLAN_INFO, flags, vlan] {
            spec.extend_from_slice(&word.to_ne_bytes());
        }
    }
    let spec_bytes = 4 + spec.len() as u16;
    let mut message = Vec::new();
    message.extend_from_slice(&(32 + u32::from(spec_bytes)).to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&request.to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(&[libc::AF_BRIDGE as u8, 0, 0, 0]);
    message.extend_from_slice(&index.to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(&spec_bytes.to_ne_bytes());
    message.extend_from_slice(&AF_SPEC.to_ne_bytes());
    message.extend(spec);
    message
}

/// Sends a message to the kernel and reads its verdict.
fn netlink(message: &[u8]) -> io::Result<()> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: plain numbers.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given it to us alone.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: the kernel reads the message's bytes only.
    let sent = unsafe {
        libc::send(
            socket.as_raw_fd(),
            message.as_ptr().cast(),
            message.len(),
            0,
        )
    };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut answer = [0_u8; 1024];
    // SAFETY: the kernel writes at most the array's length.
    let got = unsafe {
        libc::recv(
            socket.as_raw_fd(),
            answer.as_mut_ptr().cast(),
            answer.len(),
            0,
        )
    };
    if got < 0 {
        return Err(io::Error::last_os_error());
    }
    // The verdict stands behind the header, 0 or a negative errno.
    let [a, b, c, d] = *answer[16..].first_chunk().unwrap_or(&[0; 4]);
    match i32::from_ne_bytes([a, b, c, d]) {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error.saturating_neg())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_as_long_as_it_says() {
        let own = [(VLAN_PVID_UNTAGGED, 100)];
        for (vlans, bytes) in [(&own[..], 44_u32), (&ALL_VLANS, 52)] {
            let message = vlan_message(libc::RTM_SETLINK, 3, vlans);
            assert_eq!(message.len(), bytes as usize);
            assert_eq!(message[..4], bytes.to_ne_bytes());
            assert_eq!(message[32..34], (bytes as u16 - 32).to_ne_bytes());
        }
    }

    /// A bridge may have another one than 1 that ports are members of at first.
    #[test]
    fn a_port_leaves_every_vlan_before_it_joins_its_own() {
        let message = vlan_message(libc::RTM_DELLINK, 3, &ALL_VLANS);
        let words: Vec<u16> = message[36..]
            .chunks(2)
            .map(|word| u16::from_ne_bytes([word[0], word[1]]))
            .collect();
        assert_eq!(words, [8, 2, 8, 1, 8, 2, 16, 4094]);
    }

    #[test]
    fn names_too_long_for_the_kernel_are_refused() {
        assert!(Request::new("abcdefghijklmno").is_ok());
        for bad in ["", "abcdefghijklmnop", "a\0"] {
            assert!(Request::new(bad).is_err(), "{bad:?}");
        }
    }
}
