use super::*;
use proptest::prelude::*;

#[test]
fn an_empty_line_is_the_default() {
    assert_eq!(Options::parse(""), Options::default());
    assert_eq!(Options::parse("  placeholder "), Options::default());
}

#[test]
fn a_usual_line() {
    let o = Options::parse(
        "dom0_mem=512M,max:1G dom0_max_vcpus=2-4 com1=115200,8n1 console=com1,vga \
         loglvl=all guest_loglvl=error/info maxcpus=3 noreboot sched=credit xpti=dom0=off",
    );
    assert!(o.unknown.is_empty() && o.malformed.is_empty(), "{o:?}");
    assert_eq!(o.dom0_mem.bytes(8 << 30), 512 << 20);
    assert_eq!(o.dom0_mem.max, Some(Amount::Bytes(1 << 30)));
    assert_eq!(o.dom0_max_vcpus, 2..=4);
    assert_eq!(o.com[0], Uart::COM1);
    assert_eq!(o.console, Some(0));
    assert_eq!(o.log.always, LevelFilter::Trace);
    assert_eq!(o.guest_log.limited, LevelFilter::Info);
    assert_eq!((o.max_cpus, o.no_reboot), (3, true));
    assert_eq!((o.xpti.dom0, o.xpti.domu), (Some(false), None));
}

#[test]
fn the_scheduler_s_knobs() {
    assert_eq!(Options::parse("").knobs, Knobs::DEFAULT);
    let o = Options::parse("sched_credit_tslice_ms=5 sched_ratelimit_us=0");
    assert_eq!((o.knobs.slice_ms, o.knobs.ratelimit_us), (5, 0));
    let o = Options::parse("sched_credit_tslice_ms=long");
    assert_eq!(o.malformed, ["sched_credit_tslice_ms=long"]);
}

#[test]
fn unknown_and_malformed_options_are_named() {
    let o = Options::parse("frobnicate=1 dom0_mem=lots smep=hvm hpet=maybe x -- y");
    assert_eq!(o.unknown, ["frobnicate=1", "x"]);
    assert_eq!(o.malformed, ["dom0_mem=lots", "hpet=maybe"]);
    assert_eq!(o.dom0_mem, Dom0Memory::default());
}

#[test]
fn dom0_memory_in_all_its_forms() {
    let bytes = |line: &str| dom0_mem(line).unwrap().bytes(4 << 30);
    assert_eq!(bytes("1048576"), 1 << 30);
    assert_eq!(bytes("-1G"), 3 << 30);
    assert_eq!(bytes("max:512M"), 512 << 20);
    assert_eq!(bytes("min:1G,256M"), 1 << 30);
    assert_eq!(bytes("9G"), 4 << 30);
    assert_eq!(bytes("-9G"), 0);
    assert_eq!(Dom0Memory::default().bytes(1 << 30), (1 << 30) - (64 << 20));
    assert_eq!(dom0_mem("99999999999999999T"), None);
    assert_eq!(dom0_mem(""), None);
}

#[test]
fn serial_ports() {
    assert_eq!(uart("9600", Uart::COM1).unwrap().divisor, Some(12));
    assert_eq!(uart("auto,7e2", Uart::COM1).unwrap().divisor, None);
    assert_eq!(uart("auto,7e2", Uart::COM1).unwrap().line, 0x1e);
    let u = uart("115200,8n1,0x2f8,3", Uart::COM1).unwrap();
    assert_eq!((u.port, u.irq), (0x2f8, 3));
    assert_eq!(uart("115200/3686400", Uart::COM1).unwrap().divisor, Some(2));
    for bad in ["0", "230400", "x", "115200,9n1", "115200,8n1,zz"] {
        assert_eq!(uart(bad, Uart::COM1), None, "{bad}");
    }
}

#[test]
fn where_lines_go() {
    let of = |line: &str| {
        let o = Options::parse(line);
        assert!(o.unknown.is_empty() && o.malformed.is_empty(), "{line}");
        (o.console, o.screen, o.keep_screen)
    };
    assert_eq!(of(""), (Some(0), true, false));
    assert_eq!(of("console=com1"), (Some(0), false, false));
    assert_eq!(of("console=vga,com2 vga=keep"), (Some(1), true, true));
    assert_eq!(
        of("console=vga vga=gfx-1024x768x32,keep"),
        (None, true, true)
    );
    assert_eq!(of("console=none vga=text-80x50"), (None, false, false));
    assert_eq!(of("vga=keep vga=current"), (Some(0), true, false));
    for bad in [
        "vga=",
        "vga=1024x768",
        "vga=current,hold",
        "console=vga,lpt1",
    ] {
        assert_eq!(Options::parse(bad).malformed, [bad]);
    }
}

#[test]
fn firmware_is_called_unless_it_must_not_be() {
    assert!(Options::parse("efi=rs").efi_runtime);
    assert!(!Options::parse("efi=no-rs").efi_runtime);
    assert!(!Options::parse("efi=rs=no").efi_runtime);
    assert_eq!(Options::parse("efi=quick").malformed, ["efi=quick"]);
}

#[test]
fn switches_have_many_spellings() {
    assert!(!Options::parse("no-x2apic").x2apic);
    assert!(!Options::parse("x2apic=off").x2apic);
    assert!(Options::parse("x2apic=0 x2apic=1").x2apic);
    assert_eq!(Options::parse("no-smap smep=1").smap, Some(false));
    assert!(!Options::parse("tdt=no").tsc_deadline);
    assert!(Options::parse("").tsc_deadline);
    assert_eq!(Options::parse("nosmp").max_cpus, 1);
    assert!(!Options::parse("noapic").io_apic);
    assert!(!Options::parse("noreboot=0").no_reboot);
    let o = Options::parse("spec-ctrl=no");
    assert_eq!((o.spec_ctrl, o.xpti.dom0), (false, Some(false)));
    assert_eq!(Options::parse("xpti=1 spec-ctrl=no").xpti.dom0, Some(true));
    assert_eq!(Options::parse("reboot=k").reboot, Reboot::Keyboard);
    let verw = |line: &str| Options::parse(line).clear_buffers;
    assert_eq!(verw("spec-ctrl=ibpb,verw"), Some(true));
    assert_eq!(verw("spec-ctrl=no-verw,ibpb"), Some(false));
    assert_eq!(verw("spec-ctrl=md-clear=0"), Some(false));
    assert_eq!(verw("spec-ctrl=no"), None);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 256 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn any_line_is_survived(line in "([a-z0-9_]{0,8}[=:,/-]?[ 0-9a-zA-Zü]{0,6}){0,12}") {
        let _ = Options::parse(&line);
    }

    #[test]
    fn any_value_is_survived(
        name in proptest::sample::select(std::vec!["dom0_mem", "com1", "dom0_max_vcpus", "reboot", "xpti", "loglvl", "spec-ctrl"]),
        value in "[-,:/=0-9a-zA-Zü]{0,12}",
    ) {
        let _ = Options::parse(&std::format!("{name}={value}"));
    }
}

/// Names that the parser compares with, read from its source.
fn names() -> std::collections::BTreeSet<&'static str> {
    let source = include_str!("../options.rs");
    let start = source.find("fn apply_valued").unwrap();
    let end = source.find("fn spec_ctrl_value").unwrap();
    let arms = source[start..end]
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with(['"', '|']));
    let quoted = arms.flat_map(|line| {
        let patterns = line.split("=>").next().unwrap();
        patterns.split('"').skip(1).step_by(2)
    });
    quoted.collect()
}

/// The first words in backticks of each row's first cell in the documentation.
fn documented() -> std::collections::BTreeSet<&'static str> {
    let rows = include_str!("../../../../docs/command-line.md")
        .lines()
        .filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| row[1..].split(" | ").next().unwrap());
    let options = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    options
        .map(|option| option.split('=').next().unwrap())
        .collect()
}

#[test]
fn the_documentation_names_every_option_and_no_other() {
    // `smep` and `smap` are also named where `smep=hvm` is let through.
    assert_eq!(names(), documented());
}
