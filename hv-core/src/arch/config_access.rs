//! How wide an access to PCI configuration space is.
//!
//! Each access goes out at the width that was asked for. A wider one would read and write back
//! the register's neighbours, and status bits there are cleared by writing the ones that were read.
//! Pure: the machine's window and ports are behind [`ConfigRegisters`].

/// Width of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Word,
    /// 32 bits.
    Dword,
}

impl Width {
    /// That of an access to `bytes`: 1, 2, or else 4.
    #[must_use]
    pub const fn of_bytes(bytes: u8) -> Self {
        match bytes {
            1 => Self::Byte,
            2 => Self::Word,
            _ => Self::Dword,
        }
    }

    const fn bytes(self) -> u16 {
        match self {
            Self::Byte => 1,
            Self::Word => 2,
            Self::Dword => 4,
        }
    }

    /// What is read where nothing is.
    #[must_use]
    pub const fn ones(self) -> u32 {
        match self {
            Self::Byte => 0xff,
            Self::Word => 0xffff,
            Self::Dword => 0xffff_ffff,
        }
    }
}

/// A function's registers, by byte offset, which is aligned to the access.
pub trait ConfigRegisters {
    /// Reads 8 bits.
    fn read8(&self, offset: u16) -> u8;
    /// Reads 16 bits.
    fn read16(&self, offset: u16) -> u16;
    /// Reads 32 bits.
    fn read32(&self, offset: u16) -> u32;
    /// Writes 8 bits.
    fn write8(&self, offset: u16, value: u8);
    /// Writes 16 bits.
    fn write16(&self, offset: u16, value: u16);
    /// Writes 32 bits.
    fn write32(&self, offset: u16, value: u32);
}

/// Reads at `offset`. All ones if that is not aligned to the width.
#[must_use]
pub fn read(registers: &impl ConfigRegisters, offset: u16, width: Width) -> u32 {
    if !offset.is_multiple_of(width.bytes()) {
        return width.ones();
    }
    match width {
        Width::Byte => registers.read8(offset).into(),
        Width::Word => registers.read16(offset).into(),
        Width::Dword => registers.read32(offset),
    }
}

/// Writes at `offset`. Dropped if that is not aligned to the width.
pub fn write(registers: &impl ConfigRegisters, offset: u16, width: Width, value: u32) {
    if !offset.is_multiple_of(width.bytes()) {
        return;
    }
    match width {
        Width::Byte => registers.write8(offset, value as u8),
        Width::Word => registers.write16(offset, value as u16),
        Width::Dword => registers.write32(offset, value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// Bytes 4 and 5 are like a device's status: a one that is written clears the bit.
    struct Device(RefCell<[u8; 16]>);

    impl Device {
        fn read<const N: usize>(&self, offset: u16) -> [u8; N] {
            let bytes = self.0.borrow();
            bytes[usize::from(offset)..][..N].try_into().unwrap()
        }

        fn write(&self, offset: u16, value: &[u8]) {
            let mut bytes = self.0.borrow_mut();
            for (at, new) in (usize::from(offset)..).zip(value) {
                bytes[at] = if (4..6).contains(&at) {
                    bytes[at] & !new
                } else {
                    *new
                };
            }
        }
    }

    impl ConfigRegisters for Device {
        fn read8(&self, offset: u16) -> u8 {
            u8::from_le_bytes(self.read(offset))
        }
        fn read16(&self, offset: u16) -> u16 {
            u16::from_le_bytes(self.read(offset))
        }
        fn read32(&self, offset: u16) -> u32 {
            u32::from_le_bytes(self.read(offset))
        }
        fn write8(&self, offset: u16, value: u8) {
            self.write(offset, &value.to_le_bytes());
        }
        fn write16(&self, offset: u16, value: u16) {
            self.write(offset, &value.to_le_bytes());
        }
        fn write32(&self, offset: u16, value: u32) {
            self.write(offset, &value.to_le_bytes());
        }
    }

    #[test]
    fn a_write_clears_no_status_beside_it() {
        let device = Device(RefCell::new([0xff; 16]));
        for (offset, width) in [
            (3, Width::Byte),
            (2, Width::Word),
            (6, Width::Byte),
            (7, Width::Byte),
            (6, Width::Word),
            (0, Width::Dword),
            (8, Width::Dword),
        ] {
            write(&device, offset, width, 0);
            assert_eq!(read(&device, 4, Width::Word), 0xffff, "{offset} {width:?}");
        }
        // One half of the status, and the other stays.
        write(&device, 5, Width::Byte, 0x0f);
        assert_eq!(read(&device, 4, Width::Dword), 0x0000_f0ff);
    }

    #[test]
    fn what_is_not_aligned_goes_nowhere() {
        let device = Device(RefCell::new([0x11; 16]));
        for (offset, width) in [(1, Width::Word), (2, Width::Dword), (3, Width::Dword)] {
            write(&device, offset, width, 0);
            assert_eq!(read(&device, offset, width), width.ones());
        }
        assert!(device.0.borrow().iter().all(|b| *b == 0x11));
    }
}
