//! Puts the link script where a guest's build finds it: `-Tpv.ld`.

use std::path::Path;

fn main() -> std::io::Result<()> {
    println!("cargo:rerun-if-changed=pv.ld");
    let out = std::env::var("OUT_DIR").unwrap_or_default();
    std::fs::copy("pv.ld", Path::new(&out).join("pv.ld"))?;
    println!("cargo:rustc-link-search={out}");
    Ok(())
}
