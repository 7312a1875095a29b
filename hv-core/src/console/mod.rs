//! Serial console, log ring, rate limiter.
