//! A domain from a pv-image plan.
