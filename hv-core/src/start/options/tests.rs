use super::*;
use crate::arch::speculation::Sequence;
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
    let c = o.speculation;
    assert_eq!((c.xpti_dom0, c.xpti_domu), (Some(false), None));
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
    assert_eq!(Options::parse("reboot=k").reboot, Reboot::Keyboard);
}

#[test]
fn mitigations() {
    let choices = |line: &str| {
        let options = Options::parse(line);
        assert!(options.malformed.is_empty(), "{line}");
        options.speculation
    };
    let none = choices("spec-ctrl=no");
    assert_eq!((none.ibrs, none.verw), (Some(false), Some(false)));
    assert_eq!((none.xpti_dom0, none.smt), (Some(false), Some(true)));
    assert_eq!(choices("xpti=1 spec-ctrl=no").xpti_dom0, Some(true));
    // Xen's own protections only: what guests need of each other is left.
    let no_xen = choices("spec-ctrl=no-xen");
    assert_eq!((no_xen.ibrs, no_xen.xpti_domu), (Some(false), None));
    assert_eq!(choices("spec-ctrl=ibpb,verw").verw, Some(true));
    assert_eq!(choices("spec-ctrl=no-verw,ibpb").verw, Some(false));
    assert_eq!(choices("spec-ctrl=md-clear=0").verw, Some(false));
    assert_eq!(choices("spec-ctrl=md-clear=pv").verw, Some(true));
    assert_eq!(choices("spec-ctrl=rsb=no-pv,rsb=hvm").rsb, Some(false));
    let entry = choices("spec-ctrl=ibpb-entry");
    assert_eq!(
        (entry.ibpb_entry, entry.ibpb_entry_dom0),
        (Some(true), Some(true))
    );
    assert_eq!(choices("spec-ctrl=bhb-entry=pv").bhb_entry_dom0, None);
    assert_eq!(
        choices("spec-ctrl=bhb-seq=long").bhb_seq,
        Some(Sequence::Long)
    );
    assert_eq!(choices("spec-ctrl=no,ibrs").ibrs, Some(true));
    assert_eq!(choices("smt=off tsx=0").smt, Some(false));
    assert_eq!(choices("nosmt").smt, None);
    assert_eq!(choices("no-smt").smt, Some(false));
    assert_eq!(choices("xpti").xpti_domu, Some(true));
    assert_eq!(choices("pv-l1tf=dom0=1,domu=0").l1tf, Some(false));
    for bad in [
        "spec-ctrl=ibsr",
        "spec-ctrl=",
        "spec-ctrl=bhb-seq=wide",
        "spec-ctrl=rsb=x",
        "smt=2",
    ] {
        assert_eq!(Options::parse(bad).malformed, [bad], "{bad}");
    }
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
        name in proptest::sample::select(std::vec!["dom0_mem", "com1", "dom0_max_vcpus", "reboot", "xpti", "loglvl", "spec-ctrl", "pv-l1tf", "smt"]),
        value in "[-,:/=0-9a-zA-Zü]{0,12}",
    ) {
        let _ = Options::parse(&std::format!("{name}={value}"));
    }
}

/// Names that the parser compares with, read from its source.
fn names() -> std::collections::BTreeSet<&'static str> {
    let source = include_str!("../options.rs");
    let start = source.find("fn apply_valued").unwrap();
    let end = source.find("/// Source: Xen's `parse_bool`").unwrap();
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
    let text = include_str!("../../../../docs/command-line.md");
    // What follows are the words of one option.
    let rows = text
        .split("## `spec-ctrl`")
        .next()
        .unwrap()
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
