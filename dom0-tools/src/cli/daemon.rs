//! Asking `oxd`.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::exit::{Exit, Fail};
use crate::domain::protocol::{self, Answer, Event, Request, Response, WireError};

/// Sends a request to `oxd` and waits for its end; `on_event` sees what comes before. If it
/// returns an error, the connection is closed and that error is the answer.
///
/// # Errors
/// `oxd` does not run, speaks another version, or what it answered.
pub fn ask(
    socket: &Path,
    request: &Request,
    on_event: &mut dyn FnMut(Event) -> Result<(), Fail>,
) -> Result<Response, Fail> {
    let mut stream = UnixStream::connect(socket).map_err(|error| unreachable(socket, &error))?;
    protocol::send(&mut stream, request).map_err(|e| wire(&e))?;
    loop {
        match protocol::receive(&mut stream).map_err(|e| wire(&e))? {
            Some(Answer::Event(event)) => on_event(event)?,
            Some(Answer::End(end)) => return Ok(end?),
            None => {
                return Err(Fail::new(
                    Exit::Unreachable,
                    "oxd ended before it answered: `ox list` shows what became of the domain, \
                     oxd's journal why",
                ));
            }
        }
    }
}

fn unreachable(socket: &Path, error: &std::io::Error) -> Fail {
    let socket = socket.display();
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => Fail::new(
            Exit::Unreachable,
            format!(
                "oxd does not run (nobody listens on {socket}): start it with `systemctl start oxd`, or `oxd &`"
            ),
        ),
        ErrorKind::PermissionDenied => Fail::new(
            Exit::Denied,
            format!("{socket}: not permitted: try as root"),
        ),
        _ => Fail::new(Exit::Unreachable, format!("{socket}: {error}")),
    }
}

fn wire(error: &WireError) -> Fail {
    Fail::new(Exit::Unreachable, error.to_string())
}
