//! Outputs, compared word for word, over a fake machine.

mod fake;

use clap::{CommandFactory, Parser};

use super::args::Ox;
use super::exit::{Exit, Fail};
use super::out::Out;
use super::world::World;
use crate::domain::protocol::{AfterSave, Failure, FailureCode, Request, Response};
use fake::Fake;

/// What a command line prints, or its failure.
fn ox(fake: &Fake, line: &str) -> Result<String, Fail> {
    let args = std::iter::once("ox").chain(line.split_whitespace());
    let ox = Ox::try_parse_from(args).map_err(|e| Fail::new(Exit::Usage, e.to_string()))?;
    let mut text = Vec::new();
    super::verb(fake, &ox.verb, &mut Out::new(ox.json, &mut text))?;
    Ok(String::from_utf8(text).unwrap())
}

fn asked(line: &str) -> Request {
    let fake = Fake::new();
    ox(&fake, line).unwrap_or_else(|fail| panic!("{line}: {fail}"));
    let asked = fake.asked.lock().unwrap();
    asked[0].clone()
}

fn done(line: &str) -> Vec<String> {
    let fake = Fake::new();
    ox(&fake, line).unwrap_or_else(|fail| panic!("{line}: {fail}"));
    fake.done.into_inner().unwrap()
}

fn fails(line: &str) -> (Exit, String) {
    let fail = ox(&Fake::new(), line).unwrap_err();
    (fail.exit, fail.text)
}

#[test]
fn the_command_line_is_sound() {
    Ox::command().debug_assert();
}

#[test]
fn list_is_as_xl_prints_it() {
    let text = ox(&Fake::new(), "list").unwrap();
    let wanted = concat!(
        "Name                                        ID   Mem VCPUs\tState\tTime(s)\n",
        "Domain-0                                     0  1024     1     r-----       1.5\n",
        "web                                          3   128     1     -b----       6.0\n",
        "db                                           7    64     1     ---sc-      12.0\n",
    );
    assert_eq!(text, wanted);
    assert!(
        ox(&Fake::new(), "list db 3")
            .unwrap()
            .lines()
            .nth(1)
            .unwrap()
            .starts_with("db ")
    );
    let json: serde_json::Value =
        serde_json::from_str(&ox(&Fake::new(), "--json list web").unwrap()).unwrap();
    assert_eq!(json[0]["name"], "web");
    assert_eq!(json[0]["memory_kib"], 131_072);
    assert_eq!(json[0]["state"][0], "blocked");
}

#[test]
fn list_with_reasons_is_as_xl_prints_it() {
    let text = ox(&Fake::new(), "list -v").unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].ends_with("Time(s)   UUID                            Reason-Code\tSecurity Label"),
        "{text}"
    );
    assert!(
        lines[2].ends_with(" 6.0 03030303-0303-0303-0303-030303030303        -                -"),
        "{text}"
    );
    // A crash is reason 3.
    assert!(
        lines[3].ends_with(" 12.0 07070707-0707-0707-0707-070707070707        3                -"),
        "{text}"
    );
}

#[test]
fn vcpu_list_is_as_xl_prints_it() {
    let wanted = concat!(
        "Name                                ID  VCPU   CPU State   Time(s) Affinity (Hard / Soft)\n",
        "web                                  3     0     1   -b-       2.0  0 / all\n",
        "web                                  3     1     -   --p       2.0  all / all\n",
    );
    assert_eq!(ox(&Fake::new(), "vcpu-list web").unwrap(), wanted);
}

#[test]
fn sched_credit_is_as_xl_prints_it() {
    let wanted = concat!(
        "Cpupool Pool-0: tslice=30ms ratelimit=1000us migration-delay=0us\n",
        "Name                                ID Weight  Cap\n",
        "Domain-0                             0    256    0\n",
        "web                                  3    256    0\n",
        "db                                   7    256    0\n",
    );
    assert_eq!(ox(&Fake::new(), "sched-credit").unwrap(), wanted);
    assert_eq!(done("sched-credit -d web -w 512"), ["credit 3 512 0"]);
    assert_eq!(fails("sched-credit -d web -w 0").0, Exit::Usage);
}

#[test]
fn devices_are_as_xl_prints_them() {
    let wanted = concat!(
        "Vdev  BE  handle state evt-ch ring-ref BE-path\n",
        "51712 0   3      4     11     8        /local/domain/0/backend/vbd/3/51712\n",
    );
    assert_eq!(ox(&Fake::new(), "block-list web").unwrap(), wanted);
    let text = ox(&Fake::new(), "network-list 3").unwrap();
    assert!(
        text.contains("0   0  00:16:3e:00:00:01      0     4     -1   768/769"),
        "{text}"
    );
}

#[test]
fn info_has_xls_keys() {
    let text = ox(&Fake::new(), "info").unwrap();
    for line in [
        "nr_cpus                : 2\n",
        "cpu_mhz                : 2596.233\n",
        "total_memory           : 2048\n",
        "free_memory            : 512\n",
        "xen_version            : 4.17.7-oxen\n",
        "xen_scheduler          : credit\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
    let json = ox(&Fake::new(), "info --json").unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    for line in text.lines() {
        let key = line.split(':').next().unwrap().trim();
        assert!(json.get(key).is_some(), "{key}");
    }
}

#[test]
fn small_reading_verbs() {
    let fake = Fake::new();
    assert_eq!(ox(&fake, "domid web").unwrap(), "3\n");
    assert_eq!(ox(&fake, "domname 7").unwrap(), "db\n");
    assert_eq!(ox(&fake, "dmesg").unwrap(), "(OXEN) one\n(OXEN) two\n");
    assert!(
        ox(&fake, "top --once")
            .unwrap()
            .contains("      web -b----")
    );
    assert!(ox(&fake, "uptime").unwrap().starts_with("Name "));
}

#[test]
fn requests_of_verbs() {
    assert_eq!(asked("destroy web"), Request::Destroy { domain: 3 });
    assert_eq!(
        asked("mem-set web 64m"),
        Request::MemSet {
            domain: 3,
            kib: 65536
        }
    );
    assert_eq!(
        asked("vcpu-set 3 2"),
        Request::VcpuSet {
            domain: 3,
            online: 2
        }
    );
    assert_eq!(
        asked("block-detach web xvda"),
        Request::BlockDetach {
            domain: 3,
            device: 51712,
            force: false
        }
    );
    assert_eq!(
        asked("network-detach web 00:16:3E:00:00:01"),
        Request::NetworkDetach {
            domain: 3,
            device: 0,
            force: false
        }
    );
    let name = "s1".to_owned();
    assert_eq!(
        asked("snapshot web s1"),
        Request::SnapshotCreate {
            domain: 3,
            name: name.clone()
        }
    );
    assert_eq!(
        asked("snapshot create web s1"),
        Request::SnapshotCreate {
            domain: 3,
            name: name.clone()
        }
    );
    let domain = "gone".to_owned();
    assert_eq!(
        asked("snapshot delete gone s1"),
        Request::SnapshotDelete { domain, name }
    );
    let Request::Save { file, .. } = asked("save web x.sav") else {
        panic!()
    };
    assert!(file.starts_with('/'), "{file}");
    assert!(matches!(
        asked("dump-core web x.core"),
        Request::DumpCore { domain: 3, .. }
    ));
}

/// As `xl save` and `xl restore` have it.
#[test]
fn a_saved_domain_ends_goes_on_or_stays_paused() {
    for (line, wanted) in [
        ("save web x.sav", AfterSave::Destroy),
        ("save -c web x.sav", AfterSave::Run),
        ("save -p web x.sav", AfterSave::Pause),
    ] {
        let Request::Save { then, .. } = asked(line) else {
            panic!("{line}")
        };
        assert_eq!(then, wanted, "{line}");
    }
    assert_eq!(fails("save -c -p web x.sav").0, Exit::Usage);
    for (line, wanted) in [("restore /dev/null", false), ("restore -p /dev/null", true)] {
        let fake = Fake::new();
        *fake.answer.lock().unwrap() = Some(Ok(Response::Created { domain: 3 }));
        ox(&fake, line).unwrap_or_else(|fail| panic!("{line}: {fail}"));
        let asked = fake.asked.lock().unwrap();
        let Request::Restore { paused, .. } = asked[0] else {
            panic!("{line}")
        };
        assert_eq!(paused, wanted, "{line}");
    }
}

#[test]
fn direct_verbs() {
    assert_eq!(done("pause web"), ["pause 3"]);
    assert_eq!(done("trigger web nmi 1"), ["trigger 3 0 1"]);
    assert_eq!(done("vcpu-pin web 0 1"), ["pin 3 0 1 -"]);
    assert_eq!(
        done("vcpu-pin web all - 0-1"),
        ["pin 3 0 - 0-1", "pin 3 1 - 0-1"]
    );
    let fake = Fake::new();
    ox(&fake, "sysrq web t").unwrap();
    assert_eq!(
        fake.read("/local/domain/3/control/sysrq")
            .unwrap()
            .as_deref(),
        Some("t")
    );
}

#[test]
fn failures_name_the_thing_and_the_way_out() {
    for (line, exit, part) in [
        (
            "destroy nobody",
            Exit::NotFound,
            "no domain `nobody`: `ox list`",
        ),
        ("pause 99", Exit::NotFound, "no domain with id 99"),
        (
            "pause 99999999",
            Exit::NotFound,
            "no domain with id 99999999",
        ),
        (
            "destroy 0",
            Exit::Denied,
            "Domain-0 is the one this runs in",
        ),
        ("destroy Domain-0", Exit::Denied, "`destroy` is for guests"),
        (
            "vcpu-set web 9",
            Exit::Usage,
            "web can have 1 to 2 vCPUs, not 9",
        ),
        (
            "vcpu-pin web 5 all",
            Exit::NotFound,
            "web has no vCPU 5: it has 2",
        ),
        (
            "vcpu-pin web 0 7",
            Exit::Usage,
            "`7` names no CPU of this machine, which has 2",
        ),
        (
            "block-detach web xvdz",
            Exit::NotFound,
            "web has no disk `xvdz`",
        ),
        (
            "block-attach web /a,raw,nonsense",
            Exit::Usage,
            "disk: vdev: `nonsense` is no disk",
        ),
        (
            "network-attach web brigde=x",
            Exit::Usage,
            "vif: `brigde` is no key",
        ),
        ("rename web a/b", Exit::Usage, "'/' is not allowed"),
        ("snapshot web ..", Exit::Usage, "`..` names a folder"),
        (
            "mem-set web lots",
            Exit::Usage,
            "`lots` is no amount of memory",
        ),
        ("audit", Exit::Unsupported, "only Oxen does"),
        (
            "create /nonexistent.cfg",
            Exit::File,
            "/nonexistent.cfg: No such file",
        ),
        (
            "config-check /",
            Exit::File,
            "/: a folder, not a configuration",
        ),
        ("frobnicate", Exit::Usage, "frobnicate"),
        ("sysrq web tt", Exit::Usage, "one letter or digit"),
        ("snapshot web", Exit::Usage, "NAME"),
        ("man nothing", Exit::Usage, "`nothing` is no verb"),
    ] {
        let (is, text) = fails(line);
        assert_eq!(is, exit, "{line}: {text}");
        assert!(text.contains(part), "{line}: {text}");
    }
}

#[test]
fn what_oxd_refuses_has_its_exit_code() {
    let fake = Fake::new();
    let failure = Failure::new(FailureCode::NoMemory, "not enough memory for web");
    *fake.answer.lock().unwrap() = Some(Err(failure));
    let fail = ox(&fake, "mem-set web 64").unwrap_err();
    assert_eq!(
        (fail.exit, fail.text.as_str()),
        (Exit::Memory, "not enough memory for web")
    );
}

#[test]
fn create_sends_the_configuration_and_refuses_a_name_that_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let kernel = folder.path().join("k");
    std::fs::write(&kernel, "").unwrap();
    let file = folder.path().join("t.cfg");
    let write = |name: &str| {
        let text = format!("name='{name}'\nmemory=64\nkernel='{}'\n", kernel.display());
        std::fs::write(&file, text).unwrap();
    };
    let line = format!("create {} vcpus=2", file.display());
    write("new");
    let fake = Fake::new();
    *fake.answer.lock().unwrap() = Some(Ok(Response::Created { domain: 9 }));
    assert_eq!(ox(&fake, &line).unwrap(), "new: domain 9\n");
    let asked = fake.asked.lock().unwrap();
    let Request::Create {
        config,
        paused: false,
    } = &asked[0]
    else {
        panic!("{asked:?}")
    };
    assert!(config.contains("vcpus = 2"), "{config}");
    write("web");
    let (exit, text) = fails(&line);
    assert_eq!(exit, Exit::InUse, "{text}");
    write("new");
    std::fs::remove_file(&kernel).unwrap();
    let (exit, text) = fails(&line);
    assert_eq!(exit, Exit::File);
    assert!(
        text.contains("t.cfg: kernel: ") && text.contains("No such file"),
        "{text}"
    );
}

#[test]
fn pages_and_completions_are_made_of_every_verb() {
    let folder = tempfile::tempdir().unwrap();
    ox(
        &Fake::new(),
        &format!("man --dir {}", folder.path().display()),
    )
    .unwrap();
    let bash = ox(&Fake::new(), "completions bash").unwrap();
    for verb in Ox::command().get_subcommands() {
        let name = verb.get_name();
        let page = folder.path().join(format!("ox-{name}.1"));
        assert!(page.exists(), "{name}");
        assert!(bash.contains(name), "{name}");
    }
    for shell in ["zsh", "fish"] {
        assert!(
            ox(&Fake::new(), &format!("completions {shell}"))
                .unwrap()
                .len()
                > 1000
        );
    }
    assert!(
        ox(&Fake::new(), "man vcpu-pin")
            .unwrap()
            .contains("ox\\-vcpu\\-pin")
    );
}

/// What `docs/ox.md` says of verbs, exit codes and keys is all there is.
#[test]
fn the_document_names_every_verb_exit_code_and_key() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/ox.md");
    let document = std::fs::read_to_string(file).unwrap();
    for verb in Ox::command().get_subcommands() {
        let (name, about) = (verb.get_name(), verb.get_about().unwrap());
        assert!(
            document.contains(&format!("| `{name}` | {about} |")),
            "{name}"
        );
    }
    for (exit, word, meaning) in Exit::ALL {
        let line = format!("| {} | `{word}` | {meaning} |", *exit as u8);
        assert!(document.contains(&line), "{line}");
    }
    for key in crate::config::xl::keys::KEYS {
        let name = key.name;
        let named = [
            format!("`{name}`"),
            format!("`{name} "),
            format!(" {name} "),
            format!(" {name}`"),
        ];
        assert!(named.iter().any(|n| document.contains(n)), "{name}");
    }
}
