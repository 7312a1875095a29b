//! Links the guest kernels at their address.

fn main() {
    println!("cargo:rerun-if-changed=pv.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let dir = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo:rustc-link-arg-bins=-T{dir}/pv.ld");
    }
}
