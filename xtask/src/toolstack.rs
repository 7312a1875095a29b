//! What dom0 needs to create domains: a toolstack with its daemons, and everything those load.

use anyhow::Result;

use crate::build;
use crate::cpio::Archive;
use crate::programs::{self, Programs, read};

/// Whose tools manage the domains.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Toolstack {
    /// None: dom0 alone
    #[default]
    None,
    /// Debian's `xl` with xenstored and xenconsoled
    Xl,
    /// This project's `ox` with its daemon `oxd`
    Ox,
}

impl Toolstack {
    /// Name in file names and messages; also the command.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Xl => "xl",
            Self::Ox => "ox",
        }
    }
}

/// Debian's programs: package, and paths in it. They stay where Debian has them: `libxl` looks for
/// its helpers and scripts there.
const PROGRAMS: Programs = &[
    (
        "xen-utils-4.17",
        &[
            "usr/lib/xen-4.17/bin/libxl-save-helper",
            "usr/lib/xen-4.17/bin/lsevtchn",
            "usr/lib/xen-4.17/bin/xen-diag",
            "usr/lib/xen-4.17/bin/xen-init-dom0",
            "usr/lib/xen-4.17/bin/xenconsole",
            "usr/lib/xen-4.17/bin/xenconsoled",
            "usr/lib/xen-4.17/bin/xenctx",
            "usr/lib/xen-4.17/bin/xenstore-control",
            "usr/lib/xen-4.17/bin/xenstored",
            "usr/lib/xen-4.17/bin/xentop",
            "usr/lib/xen-4.17/bin/xl",
        ],
    ),
    (
        "xenstore-utils",
        &[
            "usr/bin/xenstore-chmod",
            "usr/bin/xenstore-exists",
            "usr/bin/xenstore-list",
            "usr/bin/xenstore-ls",
            "usr/bin/xenstore-read",
            "usr/bin/xenstore-rm",
            "usr/bin/xenstore-watch",
            "usr/bin/xenstore-write",
        ],
    ),
    (
        "xen-utils-common",
        &[
            "etc/xen/xl.conf",
            "etc/xen/scripts/block",
            "etc/xen/scripts/block-common.sh",
            "etc/xen/scripts/hotplugpath.sh",
            "etc/xen/scripts/locking.sh",
            "etc/xen/scripts/logging.sh",
            "etc/xen/scripts/vif-bridge",
            "etc/xen/scripts/vif-common.sh",
            "etc/xen/scripts/vif-route",
            "etc/xen/scripts/xen-hotplug-common.sh",
            "etc/xen/scripts/xen-network-common.sh",
            "etc/xen/scripts/xen-script-common.sh",
        ],
    ),
    // The scripts are written for it, and busybox has no `flock`.
    ("bash", &["bin/bash"]),
    ("util-linux", &["usr/bin/flock"]),
];

/// What disks and cards of a more elaborate kind need, for those who try them.
const DEVICE_PROGRAMS: Programs = &[
    ("qemu-utils", &["usr/bin/qemu-img", "usr/bin/qemu-nbd"]),
    ("iproute2", &["sbin/bridge"]),
];

/// Our own: what `/init` runs to start either toolstack, what tests use, what a person is shown,
/// and a guest to try.
const SHELL_FILES: &[(&str, &str)] = &[
    ("lib/toolstack.sh", include_str!("userspace/toolstack.sh")),
    ("lib/guests.sh", include_str!("userspace/guests.sh")),
    (
        "lib/demonstration.sh",
        include_str!("userspace/demonstration.sh"),
    ),
    ("etc/guest.cfg", include_str!("userspace/guest.cfg")),
];

/// Where shared libraries are looked for.
const LIBRARY_PACKAGES: &[&str] = &[
    "libc6",
    "libgcc-s1",
    "liblzma5",
    "libtinfo6",
    "libncurses6",
    "libuuid1",
    "libxencall1",
    "libxendevicemodel1",
    "libxenevtchn1",
    "libxenforeignmemory1",
    "libxengnttab1",
    "libxenhypfs1",
    "libxenmisc4.17",
    "libxenstore4",
    "libxentoolcore1",
    "libxentoollog1",
    "libyajl2",
    "libzstd1",
    "zlib1g",
];

/// Where those of [`DEVICE_PROGRAMS`] are looked for.
const DEVICE_LIBRARY_PACKAGES: &[&str] = &[
    "libc6",
    "libaio1",
    "libcap2",
    "libffi8",
    "libfuse3-3",
    "libglib2.0-0",
    "libgmp10",
    "libgnutls30",
    "libhogweed6",
    "libidn2-0",
    "libmnl0",
    "libnettle8",
    "libnuma1",
    "libp11-kit0",
    "libpcre2-8-0",
    "libselinux1",
    "libtasn1-6",
    "libunistring2",
    "liburing2",
    "libzstd1",
    "zlib1g",
];

/// Loaded by `dlopen` when a thread ends; without it `xl` aborts.
const LOADED_LATE: &[&str] = &["libgcc_s.so.1"];

/// Downloads everything, for `setup`.
///
/// # Errors
/// When a package cannot be had.
pub fn download() -> Result<()> {
    programs::download(PROGRAMS, LIBRARY_PACKAGES)?;
    programs::download(DEVICE_PROGRAMS, DEVICE_LIBRARY_PACKAGES)
}

/// Adds a toolstack. Debian's files come with either: they are the clients, drivers' scripts and
/// diagnosis that `ox` is tried with too.
///
/// # Errors
/// When a file cannot be had.
pub fn add(archive: &mut Archive, toolstack: Toolstack) -> Result<()> {
    programs::add(archive, PROGRAMS, LIBRARY_PACKAGES, LOADED_LATE)?;
    if toolstack == Toolstack::Ox {
        for (file, path) in build::toolstack()?.iter().zip(["bin/ox", "bin/oxd"]) {
            archive.file(path, 0o755, &read(file)?);
        }
    }
    archive.file("etc/toolstack", 0o644, toolstack.name().as_bytes());
    for (path, content) in SHELL_FILES {
        archive.file(path, 0o644, content.as_bytes());
    }
    Ok(())
}

/// Adds `qemu-nbd`, `qemu-img` and `bridge`, which are larger than all of [`add`].
///
/// # Errors
/// When a file cannot be had.
pub fn add_device_programs(archive: &mut Archive) -> Result<()> {
    programs::add(archive, DEVICE_PROGRAMS, DEVICE_LIBRARY_PACKAGES, &[])
}
