//! From the boot loader's 32-bit world to 64-bit Rust.
//!
//! Position independent up to paging: Multiboot 2 may load the image elsewhere
//! (in steps of 2 MiB) and says where. The first page tables map the low 4 GiB
//! both one to one and at the direct map's place, and the image at its link
//! address. `hv_core::mm::host_map` replaces them.
#![allow(
    unsafe_code,
    reason = "this is the assembly between the boot loader and Rust"
)]

use core::arch::global_asm;
use hv_core::arch::descriptor;

/// What `eax` holds when a Multiboot 1 loader enters. Source: Multiboot 0.6.96.
pub const MB1_MAGIC: u32 = 0x2bad_b002;
/// What `eax` holds when a Multiboot 2 loader enters. Source: Multiboot 2.0.
pub const MB2_MAGIC: u32 = 0x36d7_6289;

/// Bytes of the boot CPU's first stack.
const STACK_SIZE: usize = 64 << 10;

global_asm!(
    // --- Headers -----------------------------------------------------------
    ".section .boot.header, \"a\", @progbits",
    ".balign 8",
    ".globl mb1_header",
    "mb1_header:",
    // Flags: modules on page boundaries, memory map wanted, addresses below.
    ".set MB1_FLAGS, 0x00010003",
    ".long 0x1badb002, MB1_FLAGS, -(0x1badb002 + MB1_FLAGS)",
    ".long __phys_mb1_header, __phys_image_start, __phys_load_end",
    ".long __phys_image_end, __phys_start32",
    ".balign 8",
    "mb2_header:",
    ".long 0xe85250d6, 0, mb2_header_end - mb2_header",
    ".long -(0xe85250d6 + (mb2_header_end - mb2_header))",
    // Information request: command line, loader, modules, memory map.
    ".balign 8",
    "1: .short 1, 0",
    ".long 2f - 1b",
    ".long 1, 2, 3, 6",
    "2:",
    // The same, optional: framebuffer, EFI system table, RSDPs, EFI map, load base.
    ".balign 8",
    "1: .short 1, 1",
    ".long 2f - 1b",
    ".long 8, 12, 14, 15, 17, 21",
    "2:",
    // Modules on page boundaries.
    ".balign 8",
    ".short 6, 0",
    ".long 8",
    // Console: EGA text will do.
    ".balign 8",
    ".short 4, 1",
    ".long 12, 2",
    // A framebuffer is welcome, in whatever mode.
    ".balign 8",
    ".short 5, 1",
    ".long 20, 0, 0, 0",
    // May be loaded anywhere below 4 GiB in steps of 2 MiB, lowest first.
    ".balign 8",
    ".short 10, 1",
    ".long 24, __phys_image_start, 0xffffffff, 0x200000, 1",
    ".balign 8",
    ".short 0, 0",
    ".long 8",
    "mb2_header_end:",
    //
    // --- 32-bit entry: eax magic, ebx information ---------------------------
    ".section .boot.text, \"ax\", @progbits",
    ".code32",
    ".globl oxen_start32",
    "oxen_start32:",
    "cli",
    "cld",
    "mov ebp, eax",
    "mov edi, ebx",
    // esi: where the image is. Only Multiboot 2 moves it.
    "mov esi, offset __phys_image_start",
    "cmp eax, {mb1}",
    "je 3f",
    "cmp eax, {mb2}",
    "jne 9f",
    "lea ecx, [ebx + 8]",
    "1: mov eax, [ecx]",
    "test eax, eax",
    "jz 3f",
    "cmp eax, 21",
    "je 2f",
    "mov eax, [ecx + 4]",
    "add eax, 7",
    "and eax, -8",
    "add ecx, eax",
    "jmp 1b",
    "2: mov esi, [ecx + 8]",
    "3: lea esp, [esi + __off_stack_top]",
    // Long mode and NX, or a word on the serial line and no more.
    "mov eax, 0x80000000",
    "cpuid",
    "cmp eax, 0x80000001",
    "jb 8f",
    "mov eax, 0x80000001",
    "cpuid",
    "and edx, 0x20100000",
    "cmp edx, 0x20100000",
    "jne 8f",
    // Low 4 GiB in pages of 2 MiB.
    "lea ebx, [esi + __off_l2_low]",
    "mov eax, 0x83",
    "xor ecx, ecx",
    "1: mov [ebx + ecx*8], eax",
    "add eax, 0x200000",
    "inc ecx",
    "cmp ecx, 2048",
    "jb 1b",
    "lea edx, [esi + __off_l3_low]",
    "lea eax, [ebx + 3]",
    "xor ecx, ecx",
    "1: mov [edx + ecx*8], eax",
    "add eax, 0x1000",
    "inc ecx",
    "cmp ecx, 4",
    "jb 1b",
    // 32 MiB of image at its link address.
    "lea ebx, [esi + __off_l2_image]",
    "lea eax, [esi + 0x83]",
    "mov ecx, 1",
    "1: mov [ebx + ecx*8], eax",
    "add eax, 0x200000",
    "inc ecx",
    "cmp ecx, 17",
    "jb 1b",
    "lea eax, [esi + __off_l2_image + 3]",
    "mov [esi + __off_l3_image], eax",
    // Slots 0 (one to one), 264 (direct map), 261 (image).
    "lea ebx, [esi + __off_l4]",
    "lea eax, [esi + __off_l3_low + 3]",
    "mov [ebx], eax",
    "mov [ebx + 264*8], eax",
    "lea eax, [esi + __off_l3_image + 3]",
    "mov [ebx + 261*8], eax",
    // CR4.PAE; CR3; EFER.LME and NXE; CR0.PG AM WP NE ET MP PE.
    "mov eax, 0x20",
    "mov cr4, eax",
    "mov cr3, ebx",
    "mov ecx, 0xc0000080",
    "rdmsr",
    "or eax, 0x900",
    "wrmsr",
    "mov eax, 0x80050033",
    "mov cr0, eax",
    "lea eax, [esi + __off_gdt]",
    "sub esp, 8",
    "mov word ptr [esp], 23",
    "mov [esp + 2], eax",
    "lgdt [esp]",
    "lea eax, [esi + __off_start64]",
    "push 8",
    "push eax",
    "retf",
    // No 64-bit CPU.
    "8: call 1f",
    ".asciz \"Oxen: this CPU lacks 64-bit mode or NX\\r\\n\"",
    "1: pop ecx",
    "mov dx, 0x3f8",
    "1: mov al, [ecx]",
    "test al, al",
    "jz 9f",
    "out dx, al",
    "inc ecx",
    "jmp 1b",
    "9: hlt",
    "jmp 9b",
    //
    // --- 64 bit, still one to one; then at the link address ------------------
    ".code64",
    ".globl oxen_start64",
    "oxen_start64:",
    "movabs rax, offset oxen_start_high",
    "jmp rax",
    "oxen_start_high: movabs rax, offset boot_gdt_pointer",
    "lgdt [rax]",
    "mov eax, 16",
    "mov ds, eax",
    "mov es, eax",
    "mov ss, eax",
    "xor eax, eax",
    "mov fs, eax",
    "mov gs, eax",
    "movabs rsp, offset boot_stack_top",
    "mov eax, ebp",
    "mov ecx, edi",
    "mov edx, esi",
    "mov edi, eax",
    "mov esi, ecx",
    // The end of every backtrace.
    "xor ebp, ebp",
    "push rbp",
    "push rbp",
    "call {start}",
    "ud2",
    //
    ".section .rodata.boot, \"a\", @progbits",
    ".balign 8",
    ".globl boot_gdt",
    // Null, 64-bit code, data.
    "boot_gdt: .quad {gdt0}, {gdt1}, {gdt2}",
    "boot_gdt_pointer: .short 23",
    ".quad boot_gdt",
    //
    ".section .bss.page, \"aw\", @nobits",
    ".balign 4096",
    ".globl boot_l4, boot_l3_low, boot_l2_low, boot_l3_image, boot_l2_image, boot_stack_top",
    "boot_l4: .skip 4096",
    "boot_l3_low: .skip 4096",
    "boot_l3_image: .skip 4096",
    "boot_l2_image: .skip 4096",
    "boot_l2_low: .skip 4 * 4096",
    ".skip {stack}",
    "boot_stack_top:",
    ".text",
    gdt0 = const descriptor::BOOT[0].bits(),
    gdt1 = const descriptor::BOOT[1].bits(),
    gdt2 = const descriptor::BOOT[2].bits(),
    mb1 = const MB1_MAGIC,
    mb2 = const MB2_MAGIC,
    stack = const STACK_SIZE,
    start = sym crate::bare::start,
);
