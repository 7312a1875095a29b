//! What the binaries of this package share: `cargo fuzz` wants one for each target.

/// Feeds libFuzzer's input to the target of a name.
///
/// # Panics
/// When there is no such target.
pub fn feed(name: &str, data: &[u8]) {
    let target = oxen_fuzz::target(name).expect("a target of `oxen-fuzz`");
    (target.fuzz)(data);
}
