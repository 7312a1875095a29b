//! Event channels as a state machine over ids.
