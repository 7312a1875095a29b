//! Copying from and to guest memory.
