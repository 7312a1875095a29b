//! A domain's life: create, watch, restart, end.
