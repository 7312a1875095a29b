//! Error numbers (Linux numbering); hypercalls return them negated.
//!
//! Source: Xen `include/public/errno.h`.

/// Operation not permitted.
pub const EPERM: i64 = 1;
/// No such object.
pub const ENOENT: i64 = 2;
/// No such domain.
pub const ESRCH: i64 = 3;
/// I/O error.
pub const EIO: i64 = 5;
/// No such device or address.
pub const ENXIO: i64 = 6;
/// Argument list too long.
pub const E2BIG: i64 = 7;
/// Bad image.
pub const ENOEXEC: i64 = 8;
/// Bad descriptor.
pub const EBADF: i64 = 9;
/// No child.
pub const ECHILD: i64 = 10;
/// Try again.
pub const EAGAIN: i64 = 11;
/// Out of memory.
pub const ENOMEM: i64 = 12;
/// Permission denied.
pub const EACCES: i64 = 13;
/// Bad address.
pub const EFAULT: i64 = 14;
/// Busy.
pub const EBUSY: i64 = 16;
/// Exists.
pub const EEXIST: i64 = 17;
/// Crosses devices.
pub const EXDEV: i64 = 18;
/// No such device.
pub const ENODEV: i64 = 19;
/// Not a directory.
pub const ENOTDIR: i64 = 20;
/// Is a directory.
pub const EISDIR: i64 = 21;
/// Invalid argument.
pub const EINVAL: i64 = 22;
/// Table overflow.
pub const ENFILE: i64 = 23;
/// Too many.
pub const EMFILE: i64 = 24;
/// No space.
pub const ENOSPC: i64 = 28;
/// Read-only.
pub const EROFS: i64 = 30;
/// Too many links.
pub const EMLINK: i64 = 31;
/// Argument out of domain.
pub const EDOM: i64 = 33;
/// Result out of range.
pub const ERANGE: i64 = 34;
/// Deadlock.
pub const EDEADLK: i64 = 35;
/// Name too long.
pub const ENAMETOOLONG: i64 = 36;
/// No locks.
pub const ENOLCK: i64 = 37;
/// Not implemented.
pub const ENOSYS: i64 = 38;
/// Not empty.
pub const ENOTEMPTY: i64 = 39;
/// No data.
pub const ENODATA: i64 = 61;
/// Time is past.
pub const ETIME: i64 = 62;
/// Bad message.
pub const EBADMSG: i64 = 74;
/// Value too large.
pub const EOVERFLOW: i64 = 75;
/// Illegal byte sequence.
pub const EILSEQ: i64 = 84;
/// Continue later; never reaches a guest.
pub const ERESTART: i64 = 85;
/// Not a socket.
pub const ENOTSOCK: i64 = 88;
/// Message too long.
pub const EMSGSIZE: i64 = 90;
/// Not supported.
pub const EOPNOTSUPP: i64 = 95;
/// Address in use.
pub const EADDRINUSE: i64 = 98;
/// Address not available.
pub const EADDRNOTAVAIL: i64 = 99;
/// Buffer too small.
pub const ENOBUFS: i64 = 105;
/// Connected.
pub const EISCONN: i64 = 106;
/// Not connected.
pub const ENOTCONN: i64 = 107;
/// Timed out.
pub const ETIMEDOUT: i64 = 110;
/// Refused.
pub const ECONNREFUSED: i64 = 111;
