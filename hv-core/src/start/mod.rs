//! Boot order, one readable list of steps.
