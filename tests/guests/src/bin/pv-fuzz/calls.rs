//! Hypercalls with arguments of the right shape and wrong content.

use crate::arena::Arena;
use crate::kernel::Step;
use crate::random::Random;
use core::sync::atomic::{AtomicU64, Ordering};
use test_guests::boot::start_info;
use test_guests::hypercall::call;
use xen_abi::event_channel::EVTCHNOP_RESET;
use xen_abi::sched::{SCHEDOP_BLOCK, SCHEDOP_POLL, SCHEDOP_SHUTDOWN, SCHEDOP_WATCHDOG};
use xen_abi::vcpu::VCPUOP_DOWN;
use xen_abi::xen::{self as abi, MMUEXT_NEW_BASEPTR};

/// What an argument or a 64-bit word of a structure is.
#[derive(Clone, Copy)]
enum Word {
    /// A number below this.
    Below(u64),
    /// Two 32-bit numbers below these, the lower one first.
    Two(u64, u64),
    /// A domain's number in the lowest 16 bits, anything small above.
    Domain,
    /// A frame.
    Frame,
    /// A page-table entry.
    Entry,
    /// Machine address of a page-table entry, and a command in its lowest bits.
    Slot,
    /// An address.
    Address,
    /// Anything.
    Odd,
    /// A command of `mmuext_op`; seldom the one that takes the tables away under this kernel: an
    /// empty page is a good root, and its end.
    Extended,
    /// A port, but not the console's, by which it is known how far a life got; and a small number in
    /// the upper half.
    Port,
    /// Address of a structure, or of as many of them as fit, made of these words.
    Struct(&'static [Word]),
    /// Address of a list of frames.
    Frames,
    /// Address of a list of calls.
    Calls,
}

use Word::{
    Address, Below, Calls, Domain, Entry, Extended, Frame, Frames, Odd, Port, Slot, Struct, Two,
};

/// Number and arguments of a call, and how often it is to come.
struct Shape(u64, u64, &'static [Word]);

/// `xen_memory_reservation`.
const RESERVATION: &[Word] = &[Frames, Below(64), Two(12, 64), Domain];
/// What most commands with a small structure take.
const SMALL: &[Word] = &[Two(16, 16), Two(8, 1 << 12), Two(64, 64), Odd, Frame, Odd];

/// What commands about ports take.
const EVENT: &[Word] = &[Port, Two(8, 1 << 12), Two(64, 64), Odd, Frame, Odd];

/// Everything a guest may call. `iret` is no call: it gives up the guest's own state.
const SHAPES: &[Shape] = &[
    Shape(
        abi::HYPERVISOR_MMU_UPDATE,
        40,
        &[Struct(&[Slot, Entry]), Below(16), Address, Domain],
    ),
    Shape(
        abi::HYPERVISOR_UPDATE_VA_MAPPING,
        30,
        &[Address, Entry, Below(8)],
    ),
    Shape(
        abi::HYPERVISOR_UPDATE_VA_MAPPING_OTHERDOMAIN,
        4,
        &[Address, Entry, Below(8), Domain],
    ),
    Shape(
        abi::HYPERVISOR_MMUEXT_OP,
        40,
        &[
            Struct(&[Extended, Frame, Address]),
            Below(6),
            Address,
            Domain,
        ],
    ),
    Shape(
        abi::HYPERVISOR_MEMORY_OP,
        16,
        &[Below(2), Struct(RESERVATION)],
    ),
    Shape(
        abi::HYPERVISOR_MEMORY_OP,
        10,
        &[Below(7), Struct(RESERVATION)],
    ),
    Shape(abi::HYPERVISOR_MEMORY_OP, 8, &[Below(32), Struct(SMALL)]),
    Shape(abi::HYPERVISOR_MEMORY_OP, 6, &[Odd, Struct(SMALL)]),
    // Exchange: two reservations and a count.
    Shape(
        abi::HYPERVISOR_MEMORY_OP,
        10,
        &[
            Below(12),
            Struct(&[
                Frames,
                Below(16),
                Two(10, 40),
                Domain,
                Frames,
                Below(16),
                Two(10, 40),
                Domain,
                Below(4),
            ]),
        ],
    ),
    Shape(abi::HYPERVISOR_MULTICALL, 16, &[Calls, Below(8)]),
    Shape(
        abi::HYPERVISOR_GRANT_TABLE_OP,
        14,
        &[
            Below(2),
            Struct(&[Address, Two(32, 16), Domain, Odd]),
            Below(6),
        ],
    ),
    Shape(
        abi::HYPERVISOR_GRANT_TABLE_OP,
        10,
        &[
            Below(13),
            Struct(&[Domain, Two(8, 80), Address, Odd]),
            Below(6),
        ],
    ),
    Shape(
        abi::HYPERVISOR_GRANT_TABLE_OP,
        8,
        &[
            Below(6),
            Struct(&[Frame, Domain, Frame, Domain, Two(4096, 4)]),
            Below(4),
        ],
    ),
    Shape(
        abi::HYPERVISOR_EVENT_CHANNEL_OP,
        24,
        &[Below(14), Struct(EVENT)],
    ),
    Shape(
        abi::HYPERVISOR_EVENT_CHANNEL_OP,
        6,
        &[Odd, Struct(&[Domain, Odd, Odd])],
    ),
    Shape(
        abi::HYPERVISOR_EVENT_CHANNEL_OP_COMPAT,
        2,
        &[Struct(&[Below(10), Port, Odd])],
    ),
    Shape(abi::HYPERVISOR_SET_GDT, 3, &[Frames, Below(8000)]),
    Shape(abi::HYPERVISOR_UPDATE_DESCRIPTOR, 4, &[Slot, Odd]),
    Shape(abi::HYPERVISOR_STACK_SWITCH, 2, &[Odd, Address]),
    Shape(abi::HYPERVISOR_FPU_TASKSWITCH, 1, &[Below(2)]),
    Shape(
        abi::HYPERVISOR_PLATFORM_OP,
        3,
        &[Struct(&[Two(64, 0x0300_0002), Odd, Odd, Odd])],
    ),
    Shape(abi::HYPERVISOR_SET_DEBUGREG, 4, &[Below(9), Odd]),
    Shape(abi::HYPERVISOR_GET_DEBUGREG, 2, &[Below(9)]),
    Shape(abi::HYPERVISOR_SET_TIMER_OP, 2, &[Odd]),
    Shape(abi::HYPERVISOR_XEN_VERSION, 4, &[Below(12), Address]),
    Shape(abi::HYPERVISOR_CONSOLE_IO, 1, &[Below(3), Odd, Address]),
    Shape(abi::HYPERVISOR_VM_ASSIST, 2, &[Below(3), Odd]),
    Shape(
        abi::HYPERVISOR_VCPU_OP,
        12,
        &[Below(16), Below(4), Struct(SMALL)],
    ),
    // A context made of anything.
    Shape(abi::HYPERVISOR_VCPU_OP, 4, &[Below(1), Below(3), Address]),
    Shape(abi::HYPERVISOR_SET_SEGMENT_BASE, 3, &[Below(5), Odd]),
    Shape(abi::HYPERVISOR_NMI_OP, 1, &[Below(3), Address]),
    Shape(abi::HYPERVISOR_SCHED_OP, 4, &[Below(9), Struct(SMALL)]),
    Shape(
        abi::HYPERVISOR_CALLBACK_OP,
        1,
        &[Below(3), Struct(&[Two(8, 2), Address])],
    ),
    Shape(abi::HYPERVISOR_PHYSDEV_OP, 8, &[Below(34), Struct(SMALL)]),
    Shape(
        abi::HYPERVISOR_SYSCTL,
        6,
        &[Struct(&[Two(32, 0x16), Odd, Address, Odd, Address])],
    ),
    Shape(
        abi::HYPERVISOR_DOMCTL,
        10,
        &[Struct(&[
            Two(90, 0x16),
            Domain,
            Odd,
            Address,
            Frame,
            Address,
        ])],
    ),
    Shape(abi::HYPERVISOR_XSM_OP, 1, &[Struct(SMALL)]),
    Shape(abi::HYPERVISOR_HVM_OP, 1, &[Below(30), Struct(SMALL)]),
    Shape(abi::HYPERVISOR_XENPMU_OP, 1, &[Below(8), Struct(SMALL)]),
    Shape(abi::HYPERVISOR_DM_OP, 1, &[Domain, Below(4), Struct(SMALL)]),
    Shape(abi::HYPERVISOR_ARCH_0, 1, &[Struct(SMALL)]),
    Shape(abi::HYPERVISOR_ARCH_1, 1, &[Struct(SMALL)]),
    // Handlers that lead nowhere may well end this life.
    Shape(
        abi::HYPERVISOR_SET_TRAP_TABLE,
        1,
        &[Struct(&[Below(1 << 32), Address])],
    ),
];

fn domain(random: &mut Random) -> u64 {
    let id = match random.below(8) {
        0 => 0,
        1 => random.below(8),
        2 => u64::from(random.of(&[
            abi::DOMID_IO,
            abi::DOMID_XEN,
            abi::DOMID_COW,
            abi::DOMID_INVALID,
        ])),
        3 => random.below(1 << 16),
        _ => u64::from(abi::DOMID_SELF),
    };
    if random.once_in(8) {
        id | random.below(1 << 16) << 16
    } else {
        id
    }
}

fn value(arena: &mut Arena, random: &mut Random, word: Word, depth: u32) -> u64 {
    match word {
        Below(limit) => {
            if random.once_in(64) {
                random.odd()
            } else {
                random.below(limit)
            }
        }
        Two(low, high) => random.below(low) | random.below(high) << 32,
        Domain => domain(random),
        Frame => arena.frame(random),
        Entry => arena.entry(random),
        Slot => arena.slot(random) & !7 | random.below(4),
        Address => arena.address(random),
        Odd => random.odd(),
        Port => {
            let console = u64::from(start_info().console_evtchn);
            let port = random.below(16);
            let port = if port == console { 16 } else { port };
            port | random.below(16) << 32
        }
        Extended => match random.below(24) {
            command if command == u64::from(MMUEXT_NEW_BASEPTR) && !random.once_in(100) => 0,
            command => command,
        },
        _ if random.once_in(24) => arena.address(random),
        Struct(words) => fill(arena, random, words, depth),
        Frames => fill(arena, random, &[Frame], depth),
        Calls => list_of_calls(arena, random, depth),
    }
}

/// Words that a page of arguments gets, now and then.
const FILLED: usize = 128;

/// Whether a call may change where exceptions and events lead.
fn spoils(number: u64) -> bool {
    matches!(
        number,
        abi::HYPERVISOR_SET_TRAP_TABLE
            | abi::HYPERVISOR_STACK_SWITCH
            | abi::HYPERVISOR_SET_CALLBACKS
            | abi::HYPERVISOR_CALLBACK_OP
            | abi::HYPERVISOR_NMI_OP
            | abi::HYPERVISOR_VCPU_OP
    )
}

/// Fills a page with repetitions of `words`; its address.
fn fill(arena: &mut Arena, random: &mut Random, words: &[Word], depth: u32) -> u64 {
    let page = arena.argument();
    // What stands behind the first few is seldom read.
    let filled = if random.once_in(8) {
        FILLED
    } else {
        2 * words.len()
    };
    for (index, word) in words.iter().cycle().take(filled).enumerate() {
        // Structures within structures, but not without end.
        let word = match word {
            Struct(_) | Frames | Calls if depth > 2 || index >= 2 * words.len() => Address,
            other => *other,
        };
        let value = value(arena, random, word, depth + 1);
        page.write(index, value);
    }
    page.va()
}

/// Fills a page with `multicall_entry`s; its address.
fn list_of_calls(arena: &mut Arena, random: &mut Random, depth: u32) -> u64 {
    const ENTRY: usize = 8;
    let page = arena.argument();
    for entry in 0..4 {
        let (number, arguments) = make(arena, random, depth + 1);
        page.write(entry * ENTRY, number);
        page.write(entry * ENTRY + 1, 0);
        for (n, argument) in arguments.into_iter().enumerate() {
            page.write(entry * ENTRY + 2 + n, argument);
        }
    }
    page.va()
}

/// Whether a call would only end or stop this guest (a poll may have no deadline, a watchdog has one).
fn gives_up(number: u64, arguments: &[u64; 5]) -> bool {
    let command = arguments[0] as u32;
    match number {
        abi::HYPERVISOR_SCHED_OP => {
            let ends = [
                SCHEDOP_BLOCK,
                SCHEDOP_POLL,
                SCHEDOP_SHUTDOWN,
                SCHEDOP_WATCHDOG,
            ];
            ends.contains(&command)
        }
        abi::HYPERVISOR_VCPU_OP => command == VCPUOP_DOWN,
        abi::HYPERVISOR_EVENT_CHANNEL_OP => command == EVTCHNOP_RESET,
        abi::HYPERVISOR_IRET | abi::HYPERVISOR_SCHED_OP_COMPAT => true,
        _ => false,
    }
}

fn make(arena: &mut Arena, random: &mut Random, depth: u32) -> (u64, [u64; 5]) {
    let total: u64 = SHAPES.iter().map(|s| s.1).sum();
    loop {
        let mut arguments = [0; 5];
        let number = if random.once_in(200) {
            arguments = core::array::from_fn(|_| random.odd());
            random.below(70)
        } else {
            let mut at = random.below(total);
            let shape = SHAPES.iter().find(|s| match at.checked_sub(s.1) {
                Some(rest) => {
                    at = rest;
                    false
                }
                None => true,
            });
            let Some(Shape(number, _, words)) = shape else {
                continue;
            };
            for (argument, word) in arguments.iter_mut().zip(*words) {
                *argument = value(arena, random, *word, depth);
            }
            *number
        };
        if !gives_up(number, &arguments) && (depth < 3 || number != abi::HYPERVISOR_MULTICALL) {
            if spoils(number) {
                arena.spoil();
            }
            return (number, arguments);
        }
    }
}

/// Calls made by either vCPU; a multicall is one.
static CALLS: AtomicU64 = AtomicU64::new(0);

/// Calls made so far.
pub fn made() -> u64 {
    CALLS.load(Ordering::Relaxed)
}

/// Makes one call.
pub fn step(arena: &mut Arena, random: &mut Random) -> Step {
    let (number, arguments) = make(arena, random, 0);
    CALLS.fetch_add(1, Ordering::Relaxed);
    if call(number, arguments) < 0 {
        Step::Refused
    } else {
        Step::Accepted
    }
}
