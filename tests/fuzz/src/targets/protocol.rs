//! Frames between `ox` and `oxd`.

use std::fmt::Debug;

use dom0_tools::domain::protocol::{
    Answer, DomainEvent, DomainEventKind, Event, Failure, FailureCode, Request, Response,
    ShutdownHow, receive, send,
};

/// What is understood is sent as the same; what is not has a reason.
pub fn frames(data: &[u8]) {
    all::<Request>(data);
    all::<Answer>(data);
}

fn all<T>(mut data: &[u8])
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + Debug,
{
    loop {
        match receive::<T>(&mut data) {
            Ok(Some(message)) => {
                let mut again = Vec::new();
                send(&mut again, &message).expect("it came as a frame");
                let back = receive::<T>(&mut &again[..]).expect("our own frame");
                assert_eq!(back, Some(message));
            }
            Ok(None) => return,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                return;
            }
        }
    }
}

pub fn conversations() -> Vec<Vec<u8>> {
    let mut asked = Vec::new();
    for request in [
        Request::Hello,
        Request::Create {
            config: "name = \"web\"\nkernel = \"/k\"\n".into(),
            paused: true,
        },
        Request::Shutdown {
            domain: 7,
            how: ShutdownHow::Reboot,
            wait: true,
        },
        Request::Restore {
            file: "/srv/web.sav".into(),
            config: Some("x".into()),
            paused: false,
        },
        Request::SnapshotList { domain: None },
    ] {
        send(&mut asked, &request).expect("a short message");
    }
    let mut answered = Vec::new();
    for answer in [
        Answer::Event(Event::Progress {
            what: "saving memory".into(),
            done: 1 << 20,
            of: 1 << 30,
        }),
        Answer::Event(Event::Domain(DomainEvent {
            at_ms: 1_700_000_000_000,
            domain: 7,
            name: "web".into(),
            what: DomainEventKind::Shutdown("reboot".into()),
        })),
        Answer::End(Ok(Response::Created { domain: 7 })),
        Answer::End(Err(Failure::new(FailureCode::NoMemory, "no memory"))),
    ] {
        send(&mut answered, &answer).expect("a short message");
    }
    vec![asked, answered]
}
