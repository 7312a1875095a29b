//! The hypervisor's own death: what happened, where, and then as the command line says.

use core::panic::PanicInfo;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    crate::console::with_panic_writer(|out| {
        let _ = writeln!(out, "{}{info}", crate::console::PREFIX);
    });
    loop {
        core::hint::spin_loop();
    }
}
