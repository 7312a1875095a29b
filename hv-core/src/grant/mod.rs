//! Grant tables as a state machine over ids and page references.
