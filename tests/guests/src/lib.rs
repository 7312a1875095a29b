//! Tiny PV guests, one question each.
#![no_std]
