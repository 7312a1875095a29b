//! The binary interface of Xen as plain types.
#![no_std]
