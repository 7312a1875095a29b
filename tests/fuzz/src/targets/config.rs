//! Configurations of domains.

use std::path::Path;

use dom0_tools::config::{Disk, DomainConfig, Form, Loaded, Problems, Vif, parse};

/// `xl.cfg`.
pub fn xl(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        check(parse(text, "fuzz.cfg", Form::Xl), text);
    }
}

/// TOML: a domain, and the tables that `ox` sends for one device.
pub fn toml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    check(parse(text, "fuzz.toml", Form::Toml), text);
    if let Ok(disk) = Disk::from_toml(text) {
        assert_eq!(Disk::from_toml(&disk.to_toml()), Ok(disk));
    }
    if let Ok(vif) = Vif::from_toml(text) {
        assert_eq!(Vif::from_toml(&vif.to_toml()), Ok(vif));
    }
}

/// What is right is kept as the same; what is wrong is told with a line of the file.
fn check(outcome: Result<Loaded, Problems>, text: &str) {
    match outcome {
        Ok(Loaded { config, .. }) => {
            let kept = config.to_toml();
            assert_eq!(
                DomainConfig::from_toml(&kept, "kept"),
                Ok(config.clone()),
                "{kept}"
            );
            let name = Path::new(&*config.name);
            assert_eq!(name.components().count(), 1, "a name that is a path");
            assert_eq!(name.file_name(), Some(name.as_os_str()));
            let absolute = config.with_paths_from(Path::new("/base"));
            for path in [&absolute.kernel, &absolute.ramdisk].into_iter().flatten() {
                assert!(path.starts_with('/') && !path.contains(['\0', '\n']));
            }
        }
        Err(Problems(all)) => {
            assert!(!all.is_empty());
            let lines = text.lines().count() as u32 + 1;
            for problem in all {
                assert!(
                    !problem.text.is_empty() && problem.line <= lines,
                    "{problem}"
                );
            }
        }
    }
}

pub fn xl_files() -> Vec<Vec<u8>> {
    [
        r#"
# A guest with everything.
type = "pv"
name = "web"
uuid = 'ef1c2a70-0c1e-4b8e-9d3c-5a6b7c8d9e0f'
kernel = "/boot/vmlinuz"; ramdisk = "initrd.img"
root = "/dev/xvda1 ro"
extra = "console=hvc0"
extra += " quiet"
memory = 512
maxmem = 1024
vcpus = 2
maxvcpus = 4
cpus = [ "0", "1-3,^2" ]
cpus_soft = "all"
cpu_weight = 512
cap = 0x32
on_crash = "rename-restart"
disk = [
    'file:/srv/web.img,xvda,w',
    'format=qcow2, vdev=xvdb, access=ro, target=/srv/data.qcow2', # with a comment
    'phy:vg/lv,xvdc1,r', 'tap2:aio:/srv/x.img,hda:cdrom,r',
]
vif = [ 'mac=00:16:3e:00:00:01,bridge=xenbr0,vifname=v0,rate=10Mb/s@20ms,ip=10.0.0.1', '' ]
channel = [ "connection=socket,name=org.agent,path=/run/agent" ]
irqs = [ 5 ]
ioports = [ "3f8-3ff", "64" ]
iomem = [ "fed00,1@100" ]
tsc_mode = "native"
localtime = 1
rtc_timeoffset = "-3600"
max_grant_frames = 64
driver_domain = 0
device_model_version = "qemu-xen"
"#,
        "name='a'\nkernel='/k'\nmemory=64\n",
        "name=\"a\\x41\\n\" bootloader='pygrub'\ndisk=[[1,'b'],]\nmemory=\"1G\"\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

pub fn toml_files() -> Vec<Vec<u8>> {
    let mut files: Vec<Vec<u8>> = xl_files()
        .iter()
        .filter_map(|file| std::str::from_utf8(file).ok())
        .filter_map(|text| parse(text, "seed.cfg", Form::Xl).ok())
        .map(|loaded| loaded.config.to_toml().into_bytes())
        .collect();
    files.push(b"vdev = \"xvda\"\ntarget = \"/a\"\nformat = \"raw\"\n".to_vec());
    files.push(b"mac = \"00:16:3e:00:00:01\"\nbridge = \"xenbr0\"\nvlan = 7\n".to_vec());
    files
}
