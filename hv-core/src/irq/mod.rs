//! Host interrupt lines and who they are bound to.
