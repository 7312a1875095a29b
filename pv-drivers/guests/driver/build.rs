//! Links the guest as a PV kernel.

fn main() {
    println!("cargo:rustc-link-arg-bins=-Tpv.ld");
}
