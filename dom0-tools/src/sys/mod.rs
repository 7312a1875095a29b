//! Device nodes, ioctls and mappings of dom0's kernel, each behind a trait with a fake.
