//! How the calls are made: one buffer with the head, the command's struct and its arrays.

use std::io;

use xen_abi::domctl::{XEN_DOMCTL_INTERFACE_VERSION, XenDomctl};
use xen_abi::sysctl::{XEN_SYSCTL_INTERFACE_VERSION, XenSysctl};
use xen_abi::xen::{HYPERVISOR_DOMCTL, HYPERVISOR_MEMORY_OP, HYPERVISOR_SYSCTL};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::{Error, Result, Xen};
use crate::sys::{Buffer, DomId, Slot};

/// What a call is about, for its error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject {
    pub operation: &'static str,
    pub domain: Option<DomId>,
}

impl Subject {
    /// The error of this operation.
    pub const fn error(self, source: io::Error) -> Error {
        let operation = self.operation;
        match self.domain {
            Some(domain) => Error::Domain {
                operation,
                domain,
                source,
            },
            None => Error::Host { operation, source },
        }
    }
}

/// An operation on a domain.
pub(super) const fn on(operation: &'static str, domain: DomId) -> Subject {
    Subject {
        operation,
        domain: Some(domain),
    }
}

/// An operation on the host.
pub(super) const fn host(operation: &'static str) -> Subject {
    Subject {
        operation,
        domain: None,
    }
}

/// A domctl in the making.
pub(super) struct Domctl<'a> {
    xen: &'a Xen,
    subject: Subject,
    head: XenDomctl,
    slot: Slot<XenDomctl>,
    /// For the arrays that the command's struct points to.
    pub buffer: Buffer,
}

impl Domctl<'_> {
    /// Makes the call with the command's struct; returns the struct as it came back.
    pub fn run<T: FromBytes + IntoBytes + Immutable>(&mut self, argument: &T) -> Result<T> {
        self.head.u.as_mut_bytes()[..size_of::<T>()].copy_from_slice(argument.as_bytes());
        self.run_head()?;
        let (value, _) = T::read_from_prefix(self.head.u.as_bytes())
            .expect("a command's struct is at most the union's size");
        Ok(value)
    }

    /// Makes the call of a command without a struct.
    pub fn run_bare(&mut self) -> Result<()> {
        self.run_head()
    }

    fn run_head(&mut self) -> Result<()> {
        self.buffer.set(self.slot, &self.head);
        let arguments = [self.slot.address(), 0, 0, 0, 0];
        let xen = self.xen;
        xen.privcmd
            .hypercall(HYPERVISOR_DOMCTL, arguments, &mut self.buffer)
            .map_err(|e| self.subject.error(e))?;
        self.head = self.buffer.get(self.slot);
        Ok(())
    }

    /// The domain as it came back.
    pub const fn domain(&self) -> DomId {
        DomId(self.head.domain)
    }
}

impl Xen {
    /// Begins a domctl whose arrays take `arrays` bytes each.
    pub(super) fn domctl(
        &self,
        operation: &'static str,
        command: u32,
        domain: DomId,
        arrays: &[usize],
    ) -> Result<Domctl<'_>> {
        let subject = on(operation, domain);
        let mut head = XenDomctl::new_zeroed();
        head.cmd = command;
        head.interface_version = XEN_DOMCTL_INTERFACE_VERSION;
        head.domain = domain.0;
        let mut buffer = self.buffer(subject, size_of::<XenDomctl>(), arrays)?;
        let slot = buffer.put(&head);
        Ok(Domctl {
            xen: self,
            subject,
            head,
            slot,
            buffer,
        })
    }

    /// A buffer for a struct and arrays.
    pub(super) fn buffer(&self, subject: Subject, first: usize, rest: &[usize]) -> Result<Buffer> {
        let bytes = Buffer::bytes_for(&[first]) + Buffer::bytes_for(rest);
        self.privcmd.buffer(bytes).map_err(|e| subject.error(e))
    }

    /// Makes a sysctl; `buffer` has the arrays that `argument` points to, and room for the struct.
    pub(super) fn sysctl<T: FromBytes + IntoBytes + Immutable>(
        &self,
        subject: Subject,
        command: u32,
        buffer: &mut Buffer,
        argument: &T,
    ) -> Result<T> {
        let mut call = XenSysctl::new_zeroed();
        call.cmd = command;
        call.interface_version = XEN_SYSCTL_INTERFACE_VERSION;
        call.u.as_mut_bytes()[..size_of::<T>()].copy_from_slice(argument.as_bytes());
        let slot = buffer.put(&call);
        self.hypercall(
            subject,
            HYPERVISOR_SYSCTL,
            [slot.address(), 0, 0, 0, 0],
            buffer,
        )?;
        let back = buffer.get(slot);
        let (value, _) = T::read_from_prefix(back.u.as_bytes())
            .expect("a command's struct is at most the union's size");
        Ok(value)
    }

    /// A buffer for a sysctl whose arrays take `arrays` bytes each.
    pub(super) fn sysctl_buffer(&self, subject: Subject, arrays: &[usize]) -> Result<Buffer> {
        self.buffer(subject, size_of::<XenSysctl>(), arrays)
    }

    /// A sysctl without arrays.
    pub(super) fn plain_sysctl<T: FromBytes + IntoBytes + Immutable>(
        &self,
        subject: Subject,
        command: u32,
        argument: &T,
    ) -> Result<T> {
        let mut buffer = self.sysctl_buffer(subject, &[])?;
        self.sysctl(subject, command, &mut buffer, argument)
    }

    /// Makes a memory operation with a struct; returns its result and the struct.
    ///
    /// No multicall is needed for a 64-bit result: the device passes on all of it.
    pub(super) fn memory_op<T: FromBytes + IntoBytes + Immutable>(
        &self,
        subject: Subject,
        command: u32,
        buffer: &mut Buffer,
        argument: &T,
    ) -> Result<(u64, T)> {
        let slot = buffer.put(argument);
        let arguments = [u64::from(command), slot.address(), 0, 0, 0];
        let result = self.hypercall(subject, HYPERVISOR_MEMORY_OP, arguments, buffer)?;
        Ok((result, buffer.get(slot)))
    }

    /// Makes a hypercall.
    pub(super) fn hypercall(
        &self,
        subject: Subject,
        number: u64,
        arguments: [u64; 5],
        buffer: &mut Buffer,
    ) -> Result<u64> {
        self.privcmd
            .hypercall(number, arguments, buffer)
            .map_err(|e| subject.error(e))
    }
}
