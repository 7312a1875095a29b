//! `xen-abi` against Xen's own C headers.
//!
//! The crate's source says which C structs and macros it restates; this test turns each statement
//! into a C assertion and lets the C compiler judge. Needs a C compiler and Debian's `libxen-dev`;
//! without them it says so and passes.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Headers of the modules, and what makes them show everything.
const PROLOGUE: &str = "\
#define __XEN_TOOLS__ 1
#define __XEN_INTERFACE_VERSION__ 0x00040e00
#include <stddef.h>
#include <stdint.h>
#include <xen/xen.h>
#include <xen/callback.h>
#include <xen/domctl.h>
#include <xen/elfnote.h>
#include <xen/errno.h>
#include <xen/event_channel.h>
#include <xen/features.h>
#include <xen/grant_table.h>
#include <xen/io/blkif.h>
#include <xen/io/console.h>
#include <xen/io/netif.h>
#include <xen/io/xs_wire.h>
#include <xen/memory.h>
#include <xen/nmi.h>
#include <xen/physdev.h>
#include <xen/platform.h>
#include <xen/sched.h>
#include <xen/sysctl.h>
#include <xen/vcpu.h>
#include <xen/version.h>
#include <xen/arch-x86/cpuid.h>
#include <xen/arch-x86/xen-mca.h>
";

/// Fields that stand for a member of a C union or of a nested struct.
const MEMBERS: &[(&str, &str, &str)] = &[
    ("StartInfo", "console_mfn", "console.domU.mfn"),
    ("StartInfo", "console_evtchn", "console.domU.evtchn"),
    ("EvtchnStatus", "u0", "u.interdomain.dom"),
    ("EvtchnStatus", "u1", "u.interdomain.port"),
    ("PhysdevManagePciExt", "physfn_bus", "physfn.bus"),
    ("PhysdevManagePciExt", "physfn_devfn", "physfn.devfn"),
    ("PhysdevPciDeviceAdd", "physfn_bus", "physfn.bus"),
    ("PhysdevPciDeviceAdd", "physfn_devfn", "physfn.devfn"),
    ("PhysdevDbgpOp", "pci", "u.pci"),
    ("XenDomctlSchedulerOp", "credit", "u.credit"),
    ("XenSysctlSchedulerOp", "sched_credit", "u.sched_credit"),
];

/// A constant or a layout that the crate states.
#[derive(Debug, PartialEq)]
enum Statement {
    Constant {
        name: String,
        value: String,
    },
    Layout {
        name: String,
        size: String,
        fields: Vec<(String, String)>,
    },
}

/// The statements of one source file, and the C name of each struct.
fn statements(source: &str) -> (Vec<Statement>, HashMap<String, String>) {
    let mut statements = Vec::new();
    let mut c_names = HashMap::new();
    let mut documented = None;
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        if let Some(rest) = line.strip_prefix("/// `struct ") {
            documented = rest.split('`').next().map(str::to_owned);
        } else if let Some(rest) = line.strip_prefix("pub struct ") {
            let name = rest.trim_end_matches(" {").to_owned();
            if let Some(c_name) = documented.take() {
                c_names.insert(name, c_name);
            }
        } else if let Some(rest) = line.strip_prefix("pub const ") {
            if let (Some((name, _)), Some((_, value))) =
                (rest.split_once(':'), rest.split_once('='))
                && !rest.contains('[')
            {
                let value = value.trim().trim_end_matches(';').replace('_', "");
                statements.push(Statement::Constant {
                    name: name.to_owned(),
                    value,
                });
            }
        } else if line.starts_with("layout! {") {
            let mut text = line.to_owned();
            while !text.trim_end().ends_with("} }") && !text.ends_with('}') {
                text += lines.next().unwrap_or("}");
            }
            statements.extend(layout(&text));
        }
    }
    (statements, c_names)
}

/// `layout! { Name: size { field: offset, ... } }`
fn layout(text: &str) -> Option<Statement> {
    let inner = text.strip_prefix("layout! {")?.trim();
    let (name, rest) = inner.split_once(':')?;
    let (size, rest) = rest.split_once('{')?;
    let fields = rest.split('}').next()?.split(',').filter_map(|field| {
        let (name, offset) = field.split_once(':')?;
        Some((name.trim().replace("r#", ""), offset.trim().to_owned()))
    });
    Some(Statement::Layout {
        name: name.trim().to_owned(),
        size: size.trim().to_owned(),
        fields: fields.collect(),
    })
}

/// The macros that the headers define, by their upper-case names.
fn macros(program: &str) -> Option<HashMap<String, String>> {
    let file = std::env::temp_dir().join(format!("xen-abi-{}.c", std::process::id()));
    std::fs::write(&file, program).ok()?;
    let output = Command::new("cc")
        .args(["-dM", "-E"])
        .arg(&file)
        .stderr(Stdio::null())
        .output();
    // Whatever became of it, the file has served.
    let _ = std::fs::remove_file(&file);
    let output = output.ok().filter(|o| o.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let names = text.lines().filter_map(|line| {
        let name = line.strip_prefix("#define ")?.split([' ', '(']).next()?;
        Some((
            name.trim_start_matches("__").to_uppercase(),
            name.to_owned(),
        ))
    });
    Some(names.collect())
}

/// The source files in a folder and in those below it.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the crate's folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else {
            files.push(path);
        }
    }
    files
}

#[test]
fn layouts_and_numbers_are_those_of_the_c_headers() {
    let Some(macros) = macros(PROLOGUE) else {
        eprintln!("no C compiler, or no libxen-dev: not compared");
        return;
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hv-core/abi/src");
    let mut program = PROLOGUE.to_owned();
    let (mut constants, mut structs) = (0, 0);
    for path in sources(&folder) {
        let source = std::fs::read_to_string(&path).expect("a source file");
        let (statements, c_names) = statements(&source);
        for statement in statements {
            match statement {
                Statement::Constant { name, value } => {
                    let c_name = match macros.get(&name) {
                        Some(c_name) => c_name.clone(),
                        // Xen's errors are enumerators.
                        None if path.ends_with("errno.rs") && name != "ERESTART" => {
                            format!("XEN_{name}")
                        }
                        None => continue,
                    };
                    constants += 1;
                    writeln!(
                        program,
                        "_Static_assert(({c_name}) == ({value}), \"{name}\");"
                    )
                    .expect("a string");
                }
                Statement::Layout { name, size, fields } => {
                    let Some(c_name) = c_names.get(&name) else {
                        continue;
                    };
                    structs += 1;
                    writeln!(
                        program,
                        "_Static_assert(sizeof(struct {c_name}) == {size}, \"{name}\");"
                    )
                    .expect("a string");
                    for (field, offset) in fields.iter().filter(|(f, _)| !f.starts_with("_pad")) {
                        let member = MEMBERS
                            .iter()
                            .find(|(s, f, _)| *s == name && f == field)
                            .map_or(field.as_str(), |(_, _, member)| member);
                        writeln!(
                            program,
                            "_Static_assert(offsetof(struct {c_name}, {member}) == {offset}, \"{name}.{field}\");"
                        )
                        .expect("a string");
                    }
                }
            }
        }
    }
    assert!(
        constants > 300,
        "only {constants} constants were recognised"
    );
    assert!(structs > 80, "only {structs} structs were recognised");
    let file = std::env::temp_dir().join(format!("xen-abi-check-{}.c", std::process::id()));
    std::fs::write(&file, program).expect("a temporary file");
    let output = Command::new("cc")
        .args(["-std=gnu11", "-fsyntax-only"])
        .arg(&file)
        .output()
        .expect("the compiler that has just run");
    // As above.
    let _ = std::fs::remove_file(&file);
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{complaints}");
}

#[test]
fn statements_are_found() {
    let source = "/// `struct a_b`: text.\n#[repr(C)]\npub struct Ab {\n}\n\
        layout! { Ab: 8 { x: 0, r#type: 4 } }\n/// C.\npub const A_B: u32 = 0x1_0;\n";
    let (found, names) = statements(source);
    assert_eq!(names["Ab"], "a_b");
    assert_eq!(
        found,
        [
            Statement::Layout {
                name: "Ab".into(),
                size: "8".into(),
                fields: vec![("x".into(), "0".into()), ("type".into(), "4".into())],
            },
            Statement::Constant {
                name: "A_B".into(),
                value: "0x10".into()
            },
        ]
    );
}
