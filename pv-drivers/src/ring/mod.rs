//! Shared rings with a peer that is never trusted.
