//! From a PV guest image to the plan of its first address space.
#![no_std]
