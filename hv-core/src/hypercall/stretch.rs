//! A hypercall of measuring hypervisors: how long interrupts were off at most.

use super::{Call, HypercallResult, Reply};
use crate::arch::machine::stretch;

/// The longest stretch since the last such call, in the TSC's units.
///
/// # Errors
/// None.
pub fn take_longest(_: &mut Call<'_>, _: [u64; 6]) -> HypercallResult {
    Ok(Reply::Done(stretch::take_longest()))
}
