//! Run states, run queues, policies behind one trait.
