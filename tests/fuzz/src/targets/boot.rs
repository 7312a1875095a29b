//! What boot loaders say.

use hv_core::start::boot_info::BootInfo;
use hv_core::start::options::Options;
use oxen_boot::multiboot1::{self, LowMemory};
use oxen_boot::multiboot2;

pub fn multiboot2(data: &[u8]) {
    // As the binary does: the stated size first, then as much as there is.
    let size = multiboot2::size(data).unwrap_or(data.len());
    let mut info = BootInfo::new();
    multiboot2::read(&data[..size.min(data.len())], &mut info);
    check(&info);
}

/// Memory from [`BASE`] on.
struct Memory<'a>(&'a [u8]);

const BASE: u32 = 0x1000;

impl LowMemory for Memory<'_> {
    fn bytes(&self, address: u32, len: usize) -> &[u8] {
        let at = address.checked_sub(BASE).map(|at| at as usize);
        let rest = at.and_then(|at| self.0.get(at..)).unwrap_or(&[]);
        &rest[..len.min(rest.len())]
    }
}

pub fn multiboot1(data: &[u8]) {
    let mut info = BootInfo::new();
    multiboot1::read(&Memory(data), BASE, &mut info);
    check(&info);
}

/// What was believed can be used.
fn check(info: &BootInfo) {
    let _ = info.rsdp_address();
    let _ = info.memory_map.ram();
    for module in &info.modules {
        let range = module.range();
        assert!(range.start <= range.end);
    }
    let _ = Options::parse(&info.command_line);
}

pub fn command_line(data: &[u8]) {
    let options = Options::parse(&String::from_utf8_lossy(data));
    for available in [0, 4096, 1 << 30, u64::MAX] {
        assert!(options.dom0_mem.bytes(available) <= available);
    }
    let vcpus = &options.dom0_max_vcpus;
    assert!(vcpus.start() <= vcpus.end());
}

pub fn multiboot2_infos() -> Vec<Vec<u8>> {
    let words = |all: &[u32]| -> Vec<u8> { all.iter().flat_map(|w| w.to_le_bytes()).collect() };
    let mut module = words(&[0x100_0000, 0x100_2345]);
    module.extend(b"console=hvc0\0");
    let map = words(&[
        24, 0, 0, 0, 0x9_fc00, 0, 1, 0, 0x10_0000, 0, 0x700_0000, 0, 1, 0,
    ]);
    let mut framebuffer = words(&[0xfd00_0000, 0, 4096, 1024, 768]);
    framebuffer.extend([32, 1, 0, 0, 16, 8, 8, 8, 0, 8]);
    let mut root = b"RSD PTR ".to_vec();
    root.extend([0, 0, 0, 0, 0, 0, 0, 2]);
    root.extend(words(&[0x1234, 36, 0x7ff_0000, 0, 0]));
    let tags = [
        (1, b"placeholder dom0_mem=512M\0".to_vec()),
        (2, b"GRUB 2.06\0".to_vec()),
        (3, module),
        (6, map),
        (8, framebuffer),
        (12, words(&[0x7e00_0018, 0])),
        (14, root[..20].to_vec()),
        (15, root),
    ];
    let mut info = vec![0; 8];
    for (kind, body) in tags {
        info.extend(words(&[kind, body.len() as u32 + 8]));
        info.extend(body);
        info.resize(info.len().next_multiple_of(8), 0);
    }
    info.extend(words(&[0, 8]));
    let size = info.len() as u32;
    info[..4].copy_from_slice(&size.to_le_bytes());
    vec![info]
}

pub fn multiboot1_infos() -> Vec<Vec<u8>> {
    let mut memory = vec![0; 0x500];
    let mut put = |at: usize, words: &[u32]| {
        for (place, word) in memory[at..].chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
    };
    put(
        0,
        &[
            1 << 0 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9 | 1 << 12,
            640,
            65536,
        ],
    );
    put(16, &[BASE + 0x100, 2, BASE + 0x200]);
    put(44, &[2 * 24, BASE + 0x300]);
    put(64, &[BASE + 0x180]);
    put(88, &[0xfd00_0000, 0, 4096, 1024, 768, 32]);
    put(0x200, &[0x80_0000, 0x80_1000, BASE + 0x400, 0]);
    put(0x210, &[0x80_2000, 0x80_2001, 0, 0]);
    put(0x300, &[20, 0, 0, 0x9_fc00, 0, 1]);
    put(0x318, &[20, 0x10_0000, 0, 0x700_0000, 0, 1]);
    memory[0x100..0x110].copy_from_slice(b"oxen com1=115200");
    memory[0x180..0x184].copy_from_slice(b"qemu");
    memory[0x400..0x40e].copy_from_slice(b"vmlinuz root=x");
    vec![memory]
}

pub fn command_lines() -> Vec<Vec<u8>> {
    [
        "com1=115200,8n1,0x3f8,4 console=com1,vga loglvl=all/error guest_loglvl=warning",
        "dom0_mem=512M,min:256M,max:-1G dom0_max_vcpus=2-4 maxcpus=8 nosmp noreboot reboot=a,w",
        "sched=credit sched_credit_tslice_ms=10 sched_ratelimit_us=500 xpti=dom0=0,domu=1 smep=0",
        "no-smap x2apic=no noapic msi=0 clocksource=hpet hpet=off watchdog acpi=off frame_check",
        "dom0_mem=99999999999999999999T sched_credit_tslice_ms=-1 com2=auto spec-ctrl=no xpti=",
    ]
    .map(|line| line.as_bytes().to_vec())
    .to_vec()
}
