//! A kernel file into a new domain's memory, page tables and first vCPU.
