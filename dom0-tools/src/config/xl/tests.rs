//! Whole files: what they mean, and what is said about what is wrong in them.

use proptest::prelude::*;

use super::parse;
use crate::config::{Action, Affinity, DomainConfig, Loaded};

fn load(text: &str) -> Loaded {
    parse(text, "t.cfg").unwrap_or_else(|bad| panic!("{bad}"))
}

fn problems(text: &str) -> String {
    parse(text, "t.cfg").unwrap_err().to_string()
}

const FULL: &str = include_str!("everything.cfg");

#[test]
fn a_file_with_everything() {
    let Loaded { config, warnings } = load(FULL);
    assert_eq!(&*config.name, "web");
    assert_eq!(config.cmdline, "root=/dev/xvda1 ro console=hvc0");
    assert_eq!(
        (config.memory.mib(), config.max_memory().mib()),
        (512, 1024)
    );
    assert_eq!((config.vcpus, config.max_vcpus()), (2, 4));
    assert_eq!(config.cap, Some(50));
    assert_eq!(config.on_crash, Action::RenameRestart);
    assert_eq!(config.on_reboot, Action::Restart);
    assert_eq!(config.disk.len(), 2);
    assert_eq!(config.disk[1].target.as_deref(), Some("/srv/data.qcow2"));
    assert_eq!(config.vif.len(), 2);
    assert_eq!(config.ioports[1].first, 0x64);
    assert_eq!(config.rtc_timeoffset, -3600);
    assert!(matches!(&config.cpus, Affinity::Each(sets) if sets.len() == 2));
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(
        warnings[0].to_string(),
        "t.cfg:32:1: device_model_version: ignored: the guest has no device model"
    );
}

#[test]
fn what_is_read_is_written_as_toml_and_read_back() {
    let config = load(FULL).config;
    let text = config.to_toml();
    assert_eq!(
        DomainConfig::from_toml(&text, "t.toml"),
        Ok(config),
        "{text}"
    );
}

#[test]
fn all_mistakes_at_once_with_their_places() {
    let text = problems(
        "name = \"../x\"\nkernel = \"/k\"\nmemory = 512\nvcpus = \"two\"\non_crash = 'die'\n\
         disk = [ '/a,raw,xvda,w',\n         '/b,raw,nonsense,w' ]\npci = [ '01:00.0' ]\n",
    );
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("t.cfg:1:8: name: '/' is not allowed"),
        "{text}"
    );
    assert!(
        lines[1].starts_with("t.cfg:4:9: vcpus: `two` is no number: 1 to 512"),
        "{text}"
    );
}

#[test]
fn mistakes_by_key() {
    let base = "name='a'\nkernel='/k'\nmemory=64\n";
    for (line, wanted) in [
        ("memory = -1", "4:10: memory: `-1` is no amount of memory"),
        ("memory = 0", "4:10: memory: 0 KiB is too little"),
        (
            "maxmem = 32",
            "4:10: maxmem: 32 MiB is less than `memory`, 64 MiB",
        ),
        ("vcpus = 0", "4:9: vcpus: 0 is not allowed: 1 to 512 are"),
        (
            "vcpus = 4; maxvcpus = 2",
            "4:23: maxvcpus: 2 is less than `vcpus`, 4",
        ),
        ("type = 'hvm'", "4:8: type: `hvm` guests are not offered"),
        ("cpus = '3-1'", "4:8: cpus: `3-1` goes backwards"),
        (
            "disk = 'file:/a,xvda,w'",
            "4:8: disk: one value, but it is a list",
        ),
        (
            "kernel = ['/a']",
            "4:10: kernel: a list, but it is one value",
        ),
        (
            "disk = ['/a,raw,xvda,w','/b,raw,xvda,w']",
            "4:8: disk: xvda is there twice",
        ),
        ("disk = [',raw,xvda,w']", "4:8: disk: xvda: no target"),
        ("pci = ['01:00.0']", "4:1: pci: not supported: PCI devices"),
        (
            "on_poweroff = 'explode'",
            "4:15: on_poweroff: `explode` is no action: it is one of `destroy`",
        ),
        ("cpu_weight = 0", "4:14: cpu_weight: 0 is not allowed"),
        ("uuid = '1'", "4:8: uuid: `1` is no UUID"),
        (
            "vif = ['mac=1']",
            "4:8: vif: mac: `1` is no Ethernet address",
        ),
        (
            "localtime = 'yes'",
            "4:13: localtime: `yes` is no number: 0 to 1",
        ),
        (
            "kernel = 'a\\x01'",
            "kernel: '\\u{1}' is not allowed in a path",
        ),
        (
            "bootloader = 'pygrub'",
            "4:14: bootloader: it looks for a kernel on the first disk",
        ),
    ] {
        let text = problems(&format!("{base}{line}\n"));
        assert!(text.contains(wanted), "{line}:\n{text}");
    }
    assert!(problems("kernel='/k'\n").contains("t.cfg: name: missing"));
    assert!(problems("name='a'\n").contains("t.cfg: kernel: missing"));
}

#[test]
fn warnings_by_key() {
    let base = "name='a'\nkernel='/k'\nmemory=64\n";
    for (line, wanted) in [
        (
            "memroy = 5",
            "t.cfg:4:1: memroy: unknown key, ignored, is `memory` meant?",
        ),
        ("colour = 5", "t.cfg:4:1: colour: unknown key, ignored"),
        ("memory = 0100", "t.cfg:4:"),
        (
            "memory = 128",
            "t.cfg:4:1: memory: takes the place of the one in line 3",
        ),
        ("vcpus = 010", "octal: this is 8"),
        ("cmdline='x'\nextra='y'", "t.cfg:5:7: extra: not used"),
        ("vfb = ['sdl=1']", "vfb: ignored: no framebuffer is served"),
        ("vif = ['model=e1000']", "t.cfg:4:8: vif: model: ignored"),
    ] {
        let warnings = load(&format!("{base}{line}\n")).warnings;
        let text: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        assert!(text.join("\n").contains(wanted), "{line}: {text:?}");
    }
    for quiet in ["pci = []", "vfb = []", "acpi = 0", "seclabel = ''"] {
        assert_eq!(load(&format!("{base}{quiet}\n")).warnings, [], "{quiet}");
    }
}

#[test]
fn appending_joins_text_and_lists() {
    let base = "name='a'\nkernel='/k'\nmemory=64\n";
    let config = load(&format!(
        "{base}extra='a'\nextra+=' b'\ndisk=['/a,raw,xvda']\ndisk+=['/b,raw,xvdb']\n"
    ))
    .config;
    assert_eq!(config.cmdline, "a b");
    assert_eq!(config.disk.len(), 2);
    assert!(problems(&format!("{base}extra='a'\nextra+=['b']\n")).contains("`+=` joins"));
}

proptest! {
    #[test]
    fn any_text_is_answered(text: String) {
        let _ = parse(&text, "t.cfg");
    }

    #[test]
    fn any_damage_to_a_real_file_is_answered(at in 0..FULL.len(), byte in 0_u8..0x80) {
        let mut bytes = FULL.as_bytes().to_vec();
        bytes[at] = byte;
        if let Ok(Loaded { config, .. }) = parse(&String::from_utf8(bytes).unwrap(), "t.cfg") {
            let text = config.to_toml();
            prop_assert_eq!(DomainConfig::from_toml(&text, "t.toml"), Ok(config));
        }
    }

    #[test]
    fn any_cut_of_a_real_file_is_answered(at in 0..FULL.len()) {
        let _ = parse(&FULL[..at], "t.cfg");
    }
}
