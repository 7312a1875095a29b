//! What a person types and reads.
//!
//! | part | one job |
//! |---|---|
//! | [`args`] | the command line, from which help, manual pages and completions come too |
//! | [`exit`] | exit codes, and errors that have one |
//! | [`out`] | one value as a table or as JSON; progress on a terminal |
//! | [`world`] | the hypervisor, xenstore and `oxd`, each behind a seam; a domain by its name |
//! | [`daemon`] | a request to `oxd` |
//! | [`verbs`] | what each verb does |
//!
//! Verbs that only read work without `oxd`, and beside another toolstack.

pub mod args;
pub mod daemon;
pub mod exit;
pub mod out;
pub mod verbs;
pub mod world;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use clap::Parser;
use serde_json::json;

use args::{Ox, Verb};
use exit::{Exit, Fail};
use out::Out;
use verbs::{
    audit, config, console, create, devices, events, generate, info, life, list, logs, sched, size,
    snapshot, top, vcpus,
};
use world::{Dom0, World};

use crate::domain::protocol::ShutdownHow;

/// Runs `ox` with these arguments, the program's name first.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let ox = match Ox::try_parse_from(args) {
        Ok(ox) => ox,
        Err(error) => {
            // Help and version go to standard output, and are no failure.
            let _ = error.print();
            return match error.use_stderr() {
                true => Exit::Usage.into(),
                false => Exit::Ok.into(),
            };
        }
    };
    let (end, closed) = {
        let mut stdout = Closing::default();
        let end = verb(
            &Dom0::default(),
            &ox.verb,
            &mut Out::new(ox.json, &mut stdout),
        );
        (end, stdout.closed)
    };
    match end {
        Ok(()) => Exit::Ok.into(),
        // `ox list | head -1`: who reads has enough.
        Err(_) if closed => Exit::Ok.into(),
        Err(fail) => {
            complain(&fail, ox.json);
            fail.exit.into()
        }
    }
}

/// Does what a verb says.
///
/// # Errors
/// The verb's.
pub fn verb(world: &dyn World, verb: &Verb, out: &mut Out<'_>) -> Result<(), Fail> {
    match verb {
        Verb::Create(args) => create::create(world, args, out),
        Verb::Destroy(args) => life::destroy(world, args),
        Verb::Shutdown(args) => life::shutdown(world, args, ShutdownHow::Poweroff),
        Verb::Reboot(args) => life::shutdown(world, args, ShutdownHow::Reboot),
        Verb::Pause(args) => life::pause(world, args, true),
        Verb::Unpause(args) => life::pause(world, args, false),
        Verb::Save(args) => life::save(world, args),
        Verb::Restore(args) => create::restore(world, args, out),
        Verb::DumpCore(args) => life::dump_core(world, args),
        Verb::List(args) => list::list(world, args, out),
        Verb::Info => info::info(world, out),
        Verb::Console(args) => console::console(world, args),
        Verb::Dmesg(args) => info::dmesg(world, args, out),
        Verb::Top(args) => top::top(world, args, out),
        Verb::VcpuList(args) => vcpus::list(world, args, out),
        Verb::VcpuPin(args) => vcpus::pin(world, args),
        Verb::VcpuSet(args) => vcpus::set(world, args),
        Verb::MemSet(args) => size::set(world, args),
        Verb::MemMax(args) => size::max(world, args),
        Verb::SchedCredit(args) => sched::sched_credit(world, args, out),
        Verb::Rename(args) => life::rename(world, args),
        Verb::Domid(args) => list::domid(world, args, out),
        Verb::Domname(args) => list::domname(world, args, out),
        Verb::Uptime(args) => list::uptime(world, args, out),
        Verb::Sysrq(args) => life::sysrq(world, args),
        Verb::Trigger(args) => life::trigger(world, args),
        Verb::BlockAttach(args) => devices::block_attach(world, args, out),
        Verb::BlockDetach(args) => devices::block_detach(world, args),
        Verb::BlockList(args) => devices::list(world, args, "vbd", out),
        Verb::NetworkAttach(args) => devices::network_attach(world, args, out),
        Verb::NetworkDetach(args) => devices::network_detach(world, args),
        Verb::NetworkList(args) => devices::list(world, args, "vif", out),
        Verb::ConfigCheck(args) => config::check(args, out),
        Verb::Events(args) => events::events(world, args, out),
        Verb::Logs(args) => logs::logs(world, args, out),
        Verb::Snapshot(args) => snapshot::snapshot(world, args, out),
        Verb::Audit(args) => audit::audit(world, args, out),
        Verb::Completions(args) => generate::completions(args, out),
        Verb::Man(args) => generate::man(args, out),
    }
}

/// Says why, on standard error.
fn complain(fail: &Fail, as_json: bool) {
    let text = if as_json {
        let error = json!({
            "code": fail.exit.word(), "exit": fail.exit as u8, "text": fail.text
        });
        json!({ "error": error }).to_string()
    } else {
        let lines = fail.text.lines().map(|line| format!("ox: {line}"));
        lines.collect::<Vec<_>>().join("\n")
    };
    out::note(&text);
}

/// Standard output that remembers whether its reader has gone.
#[derive(Default)]
struct Closing {
    closed: bool,
}

impl Write for Closing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = io::stdout().write(bytes);
        self.seen(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = io::stdout().flush();
        self.seen(flushed)
    }
}

impl Closing {
    fn seen<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        self.closed |= matches!(&result, Err(e) if e.kind() == ErrorKind::BrokenPipe);
        result
    }
}
