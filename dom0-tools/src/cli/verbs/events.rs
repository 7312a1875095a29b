//! `events`.

use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use crate::cli::args::Events;
use crate::cli::exit::Fail;
use crate::cli::out::Out;
use crate::cli::world::{World, find};
use crate::domain::protocol::{DomainEvent, DomainEventKind, Event, Request};

/// One event, a line of JSON.
#[derive(Debug, Serialize)]
struct Line {
    /// RFC 3339, UTC.
    time: String,
    domid: u16,
    name: String,
    /// `created`, `restored`, `adopted`, `paused`, `unpaused`, `shutdown`, `restarted`,
    /// `saved`, `renamed`, `device-attached`, `device-detached`, `destroyed`, `trouble`.
    event: &'static str,
    /// Reason, successor's id, file, old name or device.
    detail: Option<String>,
}

impl Line {
    fn of(event: DomainEvent) -> Self {
        let (word, detail) = match event.what {
            DomainEventKind::Created => ("created", None),
            DomainEventKind::Restored => ("restored", None),
            DomainEventKind::Adopted => ("adopted", None),
            DomainEventKind::Paused => ("paused", None),
            DomainEventKind::Unpaused => ("unpaused", None),
            DomainEventKind::Shutdown(reason) => ("shutdown", Some(reason)),
            DomainEventKind::Restarted(id) => ("restarted", Some(id.to_string())),
            DomainEventKind::Saved(file) => ("saved", Some(file)),
            DomainEventKind::Dumped(file) => ("dumped", Some(file)),
            DomainEventKind::Renamed(old) => ("renamed", Some(old)),
            DomainEventKind::DeviceAttached(device) => ("device-attached", Some(device)),
            DomainEventKind::DeviceDetached(device) => ("device-detached", Some(device)),
            DomainEventKind::Destroyed => ("destroyed", None),
            DomainEventKind::Trouble(text) => ("trouble", Some(text)),
        };
        let time = UNIX_EPOCH + Duration::from_millis(event.at_ms);
        Self {
            time: humantime::format_rfc3339_millis(time).to_string(),
            domid: event.domain,
            name: event.name,
            event: word,
            detail,
        }
    }

    fn text(&self) -> String {
        let detail = self.detail.as_deref().unwrap_or_default();
        let line = format!(
            "{} {:4} {:<20} {} {detail}",
            self.time, self.domid, self.name, self.event
        );
        format!("{}\n", line.trim_end())
    }
}

/// `events`
///
/// # Errors
/// There is no such domain, or `oxd`'s.
pub fn events(world: &dyn World, args: &Events, out: &mut Out<'_>) -> Result<(), Fail> {
    let domain = match &args.domain {
        // One that is gone may still be asked for by its id.
        Some(text) => Some(match text.parse() {
            Ok(id) => id,
            Err(_) => find(world, text)?.id.0,
        }),
        None => None,
    };
    let request = Request::Events {
        domain,
        past: true,
        follow: args.follow,
    };
    world
        .ask(&request, &mut |event| match event {
            Event::Domain(event) => out.show_line(&Line::of(event), Line::text),
            Event::Progress { .. } | Event::Warning(_) => Ok(()),
        })
        .map(drop)
}
