//! A crashed guest that is kept, by a daemon that is killed at any of its calls.

use std::str::FromStr;

use super::*;

/// The UUID of [`CONFIG`].
fn given_up() -> Uuid {
    Uuid::from_str("00000000-0000-4000-8000-000000000009").unwrap()
}

/// The guest, which crashed and is kept: under another name and UUID, with both given up.
fn assert_kept(host: &Host, daemon: &Arc<Daemon>, domain: DomId, when: &str) {
    let given_up = given_up();
    let name = format!("g-{domain}");
    until(when, || daemon.registry.named(&name).is_some());
    let entry = daemon.registry.get(domain).expect(when);
    let uuid = Uuid(host.machine_handle(domain));
    assert_ne!(uuid, given_up, "{when}");
    assert_eq!(entry.uuid(), uuid, "{when}");
    let link = host.link();
    let read = |path: String| link.read(&path).unwrap();
    until(when, || {
        read(format!("/local/domain/{domain}/name")) == Some(name.clone())
    });
    until(when, || daemon.persist.due().is_empty());
    assert_eq!(read(format!("/vm/{uuid}/name")), Some(name), "{when}");
    assert_eq!(link.list("/vm").unwrap(), [uuid.to_string()], "{when}");
    assert!(daemon.check_name(&link, "g").is_ok(), "{when}");
    assert!(daemon.registry.reserve("g", given_up).is_ok(), "{when}");
}

#[test]
fn who_crashed_is_kept_once_and_gives_up_its_name_and_uuid() {
    let host = Host::new();
    for calls in 1.. {
        let when = format!("killed at call {calls}");
        let (daemon, way) = host.daemon();
        let domain = host.restored(&daemon);
        let entry = daemon.registry.get(domain).unwrap();
        let config = entry.change(|config| {
            config.on_crash = crate::config::Action::RenameRestart;
            config.kernel = Some("/no kernel".into());
        });
        daemon.persist.change(entry.uuid(), &config).unwrap();
        host.machine
            .guest_stops(domain, xen_abi::sched::SHUTDOWN_CRASH as u8);
        way.set(Fate::Killed(calls));
        entry.give(Task::Look).unwrap();
        let named = || daemon.registry.named(&format!("g-{domain}")).is_some();
        let done = || named() && daemon.persist.due().is_empty();
        until(&when, || way.is_killed() || done());
        let finished = !way.is_killed();
        if finished {
            way.set(Fate::Nothing);
            assert_kept(&host, &daemon, domain, &when);
        }
        way.set(Fate::Killed(0));
        let next = host.next_daemon();
        assert_kept(&host, &next, domain, &when);
        let request = Request::Destroy { domain: domain.0 };
        answered(&ask(&next, domain, request), None);
        host.assert_empty(&when);
        if finished {
            assert!(calls > 2, "only {calls} calls");
            return;
        }
    }
}
