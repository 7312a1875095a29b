//! Disks and network cards of a domain that runs.

use clap::Args;

/// `block-attach`
#[derive(Debug, Args)]
pub struct BlockAttach {
    /// Name or id
    pub domain: String,
    /// The disk as in xl.cfg: 'target=/x.img' 'vdev=xvdb', or /x.img,raw,xvdb,w
    #[arg(value_name = "SPEC", required = true)]
    pub spec: Vec<String>,
}

/// `block-detach`
#[derive(Debug, Args)]
pub struct BlockDetach {
    /// Name or id
    pub domain: String,
    /// The disk: `xvdb` or its number
    pub device: String,
    /// Do not wait for the guest to let go
    #[arg(long)]
    pub force: bool,
}

/// `network-attach`
#[derive(Debug, Args)]
pub struct NetworkAttach {
    /// Name or id
    pub domain: String,
    /// The card as in xl.cfg: 'bridge=xenbr0' 'mac=00:16:3e:00:00:02'
    #[arg(value_name = "KEY=VALUE")]
    pub spec: Vec<String>,
}

/// `network-detach`
#[derive(Debug, Args)]
pub struct NetworkDetach {
    /// Name or id
    pub domain: String,
    /// The card: its number or its address
    pub device: String,
    /// Do not wait for the guest to let go
    #[arg(long)]
    pub force: bool,
}
