//! Guest page tables: validated, counted, updated.
