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
        include_str!("../../../../dom0-tools/src/config/xl/everything.cfg"),
        "name='a'\nkernel='/k'\nmemory=64\n",
        "name='a'\nkernel='k'\nmemory=64\nextra='a'\nextra += ' b'\n\
         disk=['phy:vg/lv,xvdc1,r', 'tap2:aio:/srv/x.img,hda:cdrom,r']\n\
         vif=['vifname=v0,rate=10Mb/s@20ms,ip=10.0.0.1']\n",
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
