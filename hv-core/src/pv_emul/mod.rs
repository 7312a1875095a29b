//! Privileged instructions of a PV kernel: decoding and effect.
