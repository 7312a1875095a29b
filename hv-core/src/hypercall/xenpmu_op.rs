//! `xenpmu_op` (40): performance counters, which guests do not get.

use super::{Call, Error, HypercallResult};

/// Says that there are none.
///
/// # Errors
/// `EOPNOTSUPP`, always: kernels then do without.
pub fn xenpmu_op(_: &mut Call<'_>, _: [u64; 6]) -> HypercallResult {
    Err(Error::NotSupported)
}
