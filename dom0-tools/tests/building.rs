//! Domains built on a machine that is none: what fails leaves nothing, whatever fails.

#[path = "../../hv-core/pv-image/tests/synthetic/mod.rs"]
mod synthetic;

use std::sync::Arc;

use dom0_tools::build::{Built, Error, Kernel, NewDomain, Request, build};
use dom0_tools::ctl::{CreateDomain, Xen};
use dom0_tools::sys::fake::Machine;
use dom0_tools::sys::{Access, DomId};
use synthetic::{LINUX, Shape};

/// A kernel of 4 MiB in a domain of 24 MiB.
const SMALL: Shape = Shape {
    first_page: 0x400,
    pages: 0x400,
    ..LINUX
};
const PAGES: u64 = 6144;
/// Like a unikernel: nothing apart, all in the boot region.
const PLAIN: Shape = Shape {
    virt_base: 0,
    init_p2m: None,
    mod_start_pfn: false,
    ..SMALL
};

fn make(machine: &Machine, kernel: &Kernel, pages: u64) -> Result<(NewDomain, Built), Error> {
    let xen = Xen::new(Arc::new(machine.clone()));
    let params = CreateDomain {
        vcpus: 2,
        ..CreateDomain::default()
    };
    let domain = NewDomain::create(&xen, None, &params)?;
    let initrd = vec![0xab; 10_000];
    let request = Request {
        kernel,
        initrd: Some((&*initrd, initrd.len() as u64)),
        command_line: b"console=hvc0",
        pages,
        max_pages: pages,
        vcpus: 2,
        store: DomId::DOM0,
        console: DomId::DOM0,
    };
    let built = build(&domain, request)?;
    Ok((domain, built))
}

#[test]
fn a_domain_is_built_and_gone_when_dropped() {
    for shape in [SMALL, PLAIN] {
        let machine = Machine::new();
        let free = machine.free_frames();
        let kernel = Kernel::open(shape.elf()).unwrap();
        let (domain, built) = make(&machine, &kernel, PAGES).unwrap();
        assert_ne!(built.store, built.console);
        let ring = machine.map(&[built.store.mfn], Access::Read).unwrap();
        assert_eq!(ring.load_u32(0), 0);
        assert_eq!(machine.ports(domain.id()), 2);
        let id = domain.id();
        drop(domain);
        assert_eq!((machine.domains(), machine.ports(id)), (0, 0));
        assert_eq!(machine.free_frames(), free);
    }
}

#[test]
fn every_call_may_fail_and_nothing_is_left() {
    let kernel = Kernel::open(SMALL.elf()).unwrap();
    for errno in [libc::ENOMEM, libc::EINVAL] {
        for calls in 0.. {
            let machine = Machine::new();
            let free = machine.free_frames();
            machine.fail_after(calls, errno);
            let made = make(&machine, &kernel, PAGES);
            if machine.end_fault() {
                // All calls were made before it.
                assert!(made.is_ok());
                assert!(calls > 15, "only {calls} calls");
                break;
            }
            assert!(made.is_err(), "call {calls} failed unnoticed");
            assert_eq!(machine.domains(), 0, "call {calls}");
            assert_eq!(machine.free_frames(), free, "call {calls}");
        }
    }
}

#[test]
fn too_much_memory_is_told_with_numbers() {
    let machine = Machine::new();
    let kernel = Kernel::open(SMALL.elf()).unwrap();
    let error = make(&machine, &kernel, 1 << 20).unwrap_err().to_string();
    assert!(error.contains("4096 MiB"), "{error}");
    assert_eq!(machine.domains(), 0);
}

#[test]
fn a_kernel_cut_or_flipped_anywhere_gives_an_error_or_a_domain() {
    let machine = Machine::new();
    let good = SMALL.elf();
    let mut refused = 0;
    for at in 0..good.len() {
        let mut flipped = good.clone();
        flipped[at] ^= 1 << (at % 8);
        for file in [good[..at].to_vec(), flipped] {
            let made = Kernel::open(file).and_then(|kernel| make(&machine, &kernel, PAGES));
            refused += usize::from(made.is_err());
            drop(made);
            assert_eq!(machine.domains(), 0);
        }
    }
    // At least all that were cut.
    assert!(refused >= good.len(), "{refused}");
}
