//! Builds a guest and lets it run, beside Debian's xenstored and xenconsoled: the least that leads
//! to a kernel's messages.
//!
//! `build_guest KERNEL MiB VCPUS COMMAND_LINE [INITRD]`, `build_guest save DOMAIN FILE`,
//! `build_guest restore FILE MiB VCPUS`.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use dom0_tools::build::{Built, Kernel, NewDomain, Request, build};
use dom0_tools::ctl::{CreateDomain, Xen};
use dom0_tools::stream;
use dom0_tools::sys::DomId;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

// Source: Xen `include/public/io/xs_wire.h`.
const XS_INTRODUCE: u32 = 8;
const XS_WRITE: u32 = 11;
const XS_SET_PERMS: u32 = 14;

fn main() -> Fallible<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["save", domain, file] => return save(DomId(domain.parse()?), file),
        ["restore", file, mebibytes, vcpus] => {
            return restore(file, mebibytes.parse::<u64>()? << 8, vcpus.parse()?);
        }
        _ => {}
    }
    let [kernel, mebibytes, vcpus, command_line, initrd @ ..] = &args[..] else {
        return Err("build_guest KERNEL MiB VCPUS COMMAND_LINE [INITRD]".into());
    };
    let began = Instant::now();
    let after = |what: &str| println!("{:6} ms: {what}", began.elapsed().as_millis());
    let xen = Xen::open()?;
    println!("{:?}\n{:?}", xen.hypervisor_info()?, xen.host_info()?);
    after("asked");
    let kernel = Kernel::open(std::fs::read(kernel)?)?;
    after("kernel unpacked");
    let vcpus = vcpus.parse()?;
    let params = CreateDomain {
        handle: *b"build_guest-uuid",
        vcpus,
        ..CreateDomain::default()
    };
    let domain = NewDomain::create(&xen, None, &params)?;
    let pages = mebibytes.parse::<u64>()? << 8;
    let initrd = initrd.first().map(File::open).transpose()?;
    let initrd = initrd.map(|file| Ok::<_, std::io::Error>((file.metadata()?.len(), file)));
    let initrd = initrd.transpose()?.map(|(bytes, file)| (file, bytes));
    let request = Request {
        kernel: &kernel,
        initrd,
        command_line: command_line.as_bytes(),
        pages,
        max_pages: pages,
        vcpus,
        store: DomId::DOM0,
        console: DomId::DOM0,
    };
    let built = build(&domain, request)?;
    after("built");
    introduce(domain.id(), &built, pages)?;
    after("introduced");
    println!("{:?}", xen.domain_info(domain.id())?);
    let id = domain.keep();
    xen.unpause(id)?;
    after("runs");
    println!("domain {id}");
    Ok(())
}

/// Has a domain suspend itself, and saves it.
fn save(domain: DomId, file: &str) -> Fallible<()> {
    let xen = Xen::open()?;
    let mut store = UnixStream::connect("/run/xenstored/socket")?;
    let order = format!("/local/domain/{domain}/control/shutdown\0suspend");
    ask(&mut store, XS_WRITE, order.as_bytes())?;
    while xen.domain_info(domain)?.shutdown.is_none() {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let began = Instant::now();
    let config = format!(
        "name = \"saved\"\ntype = \"pv\"\nmemory = {}\nvcpus = {}\nkernel = \"/guests/vmlinux\"\n",
        xen.domain_info(domain)?.pages / 256,
        xen.domain_info(domain)?.vcpus
    );
    let bytes = stream::file::write(Path::new(file), &config, "none", |to| {
        stream::save(&xen, domain, &mut { to }, &mut |_, _| {})
    })?;
    println!("saved {bytes} bytes in {} ms", began.elapsed().as_millis());
    Ok(xen.destroy(domain)?)
}

/// Makes a domain of a saved one.
fn restore(file: &str, pages: u64, vcpus: u32) -> Fallible<()> {
    let began = Instant::now();
    let xen = Xen::open()?;
    let mut opened = stream::file::open(Path::new(file))?;
    println!("{:?}", opened.config);
    let params = CreateDomain {
        handle: *b"restored    uuid",
        vcpus,
        ..CreateDomain::default()
    };
    let domain = NewDomain::create(&xen, None, &params)?;
    let wanted = stream::Restored {
        pages,
        max_pages: pages,
        vcpus,
        store: DomId::DOM0,
        console: DomId::DOM0,
        begins: opened.begins,
    };
    let built = stream::restore(&domain, &mut opened.stream, &wanted, &mut |_, _| {})?;
    introduce(domain.id(), &built, pages)?;
    let id = domain.keep();
    xen.unpause(id)?;
    println!("domain {id} restored in {} ms", began.elapsed().as_millis());
    Ok(())
}

/// What Linux, xenstored and xenconsoled need to find in xenstore.
fn introduce(domain: DomId, built: &Built, pages: u64) -> Fallible<()> {
    let mut store = UnixStream::connect("/run/xenstored/socket")?;
    let home = format!("/local/domain/{domain}");
    let nodes = [
        ("name", format!("guest-{domain}")),
        ("domid", domain.to_string()),
        ("memory/target", (pages * 4).to_string()),
        ("cpu/0/availability", "online".to_owned()),
        ("console/ring-ref", built.console.mfn.to_string()),
        ("console/port", built.console.port.to_string()),
        ("console/limit", "1048576".to_owned()),
        ("console/type", "xenconsoled".to_owned()),
        ("store/ring-ref", built.store.mfn.to_string()),
        ("store/port", built.store.port.to_string()),
        ("device", String::new()),
    ];
    // The guest answers there.
    let control = format!("{home}/control/shutdown\0");
    ask(&mut store, XS_WRITE, format!("{home}\0").as_bytes())?;
    ask(
        &mut store,
        XS_SET_PERMS,
        format!("{home}\0n0\0r{domain}\0").as_bytes(),
    )?;
    for (node, value) in nodes {
        let path = format!("{home}/{node}\0");
        ask(&mut store, XS_WRITE, format!("{path}{value}").as_bytes())?;
        ask(
            &mut store,
            XS_SET_PERMS,
            format!("{path}n0\0r{domain}\0").as_bytes(),
        )?;
    }
    ask(&mut store, XS_WRITE, control.as_bytes())?;
    ask(
        &mut store,
        XS_SET_PERMS,
        format!("{control}n{domain}\0").as_bytes(),
    )?;
    let who = format!("{domain}\0{}\0{}\0", built.store.mfn, built.store.port);
    ask(&mut store, XS_INTRODUCE, who.as_bytes())
}

fn ask(store: &mut UnixStream, kind: u32, payload: &[u8]) -> Fallible<()> {
    let head = [kind, 0, 0, u32::try_from(payload.len())?];
    store.write_all(&head.map(u32::to_le_bytes).concat())?;
    store.write_all(payload)?;
    let mut head = [0; 16];
    store.read_exact(&mut head)?;
    let word = |n: usize| u32::from_le_bytes([head[n], head[n + 1], head[n + 2], head[n + 3]]);
    let mut answer = vec![0; word(12) as usize];
    store.read_exact(&mut answer)?;
    if word(0) == kind {
        Ok(())
    } else {
        Err(format!("xenstored: {}", String::from_utf8_lossy(&answer)).into())
    }
}
