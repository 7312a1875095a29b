//! The targets, by what they parse.

mod boot;
mod config;
pub mod devices;
mod firmware;
mod instruction;
mod kernel;
mod protocol;
mod store;
mod stream;

use crate::Target;

const MIB: usize = 1 << 20;

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "kernel-file",
        about: "a kernel file: bzImage with gzip, xz, zstd, lz4; ELF",
        fuzz: kernel::file,
        seeds: kernel::files,
        memory: 256 * MIB + pv_image::file::MEMORY_LIMIT,
    },
    Target {
        name: "kernel-elf",
        about: "an unpacked kernel, its notes, and the layout planned from it",
        fuzz: kernel::elf,
        seeds: kernel::elves,
        memory: 16 * MIB,
    },
    Target {
        name: "xl-config",
        about: "a configuration in xl.cfg's form",
        fuzz: config::xl,
        seeds: config::xl_files,
        memory: 32 * MIB,
    },
    Target {
        name: "toml-config",
        about: "a configuration in TOML; a disk; a network card",
        fuzz: config::toml,
        seeds: config::toml_files,
        memory: 32 * MIB,
    },
    Target {
        name: "xenstore",
        about: "xenstore messages of a guest, and of a program in dom0",
        fuzz: store::messages,
        seeds: store::conversations,
        memory: 32 * MIB,
    },
    Target {
        name: "xenstore-journal",
        about: "what an earlier daemon kept of the store",
        fuzz: store::journal,
        seeds: store::journals,
        memory: 32 * MIB,
    },
    Target {
        name: "migration-stream",
        about: "a saved domain's stream, into a fake hypervisor",
        fuzz: stream::stream,
        seeds: stream::streams,
        memory: 64 * MIB,
    },
    Target {
        name: "save-file",
        about: "the file around such a stream",
        fuzz: stream::file,
        seeds: stream::files,
        memory: 64 * MIB,
    },
    Target {
        name: "oxd-protocol",
        about: "frames between ox and oxd",
        fuzz: protocol::frames,
        seeds: protocol::conversations,
        memory: 32 * MIB,
    },
    Target {
        name: "multiboot2",
        about: "what GRUB says",
        fuzz: boot::multiboot2,
        seeds: boot::multiboot2_infos,
        memory: 8 * MIB,
    },
    Target {
        name: "multiboot1",
        about: "what QEMU's own loader says",
        fuzz: boot::multiboot1,
        seeds: boot::multiboot1_infos,
        memory: 8 * MIB,
    },
    Target {
        name: "command-line",
        about: "the hypervisor's command line",
        fuzz: boot::command_line,
        seeds: boot::command_lines,
        memory: 8 * MIB,
    },
    Target {
        name: "firmware",
        about: "what we read of ACPI's, EFI's and SMBIOS's tables ourselves",
        fuzz: firmware::tables,
        seeds: firmware::samples,
        memory: 8 * MIB,
    },
    Target {
        name: "instruction",
        about: "guest instructions to emulate",
        fuzz: instruction::decode,
        seeds: instruction::samples,
        memory: 8 * MIB,
    },
    Target {
        name: "frontend-block",
        about: "a disk's two halves, while what they share is meddled with",
        fuzz: devices::block,
        seeds: devices::programs,
        memory: 64 * MIB,
    },
    Target {
        name: "frontend-net",
        about: "a network card's two halves, likewise",
        fuzz: devices::net,
        seeds: devices::programs,
        memory: 64 * MIB,
    },
    Target {
        name: "frontend-9p",
        about: "the guest's half of shared files, and a server, likewise",
        fuzz: devices::p9,
        seeds: devices::programs,
        memory: 64 * MIB,
    },
    Target {
        name: "frontend-console",
        about: "a guest's console, while its backend does what it likes",
        fuzz: devices::console,
        seeds: devices::programs,
        memory: 8 * MIB,
    },
    Target {
        name: "frontend-xenstore",
        about: "a guest's client of xenstore, while its server does what it likes",
        fuzz: devices::store,
        seeds: devices::programs,
        memory: 16 * MIB,
    },
];
