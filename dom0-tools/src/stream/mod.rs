//! Saved domains: the migration stream, version 2.
