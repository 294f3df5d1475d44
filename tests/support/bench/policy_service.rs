//! Postfix's policy protocol, as Postgrey speaks it: questions on connections that are kept.

use std::{
    fmt::Write as _,
    io::{self, BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::visit::{Outcome, Played, Visit};

/// A policy service, and the connections to it that nobody uses at the moment.
#[derive(Debug)]
pub struct PolicyService {
    address: SocketAddr,
    idle: Mutex<Vec<BufReader<TcpStream>>>,
}

impl PolicyService {
    /// The one at `address`.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            idle: Mutex::default(),
        }
    }

    /// What smtpd asks at RCPT, on a connection of before if there is one.
    pub fn ask(&self, visit: &Visit<'_>) -> io::Result<Played> {
        let idle = self.connections().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => BufReader::new(self.connect()?),
        };
        connection.get_mut().write_all(question(visit).as_bytes())?;
        let action = answer(&mut connection)?;
        let answered = Instant::now();
        self.connections().push(connection);
        // Postfix makes the first of it a 450 at the end of its own restrictions.
        let is_deferral = ["DEFER", "DEFER_IF_PERMIT", "450", "451"]
            .iter()
            .any(|word| action.split_whitespace().next() == Some(word));
        Ok(Played {
            end: if is_deferral {
                Outcome::DeferredAtRcpt
            } else {
                Outcome::Otherwise
            },
            round_trips: 1,
            answered,
        })
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    fn connections(&self) -> std::sync::MutexGuard<'_, Vec<BufReader<TcpStream>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn question(visit: &Visit<'_>) -> String {
    let Visit { number, client, .. } = visit;
    let mut text = String::new();
    for (name, value) in [
        ("request", "smtpd_access_policy".to_owned()),
        ("protocol_state", "RCPT".to_owned()),
        ("protocol_name", "ESMTP".to_owned()),
        ("helo_name", format!("mail.sender{number}.example")),
        ("sender", format!("someone@sender{number}.example")),
        ("recipient", "someone@recipient.example".to_owned()),
        ("client_address", client.to_string()),
        ("client_name", "unknown".to_owned()),
        ("reverse_client_name", "unknown".to_owned()),
        ("instance", format!("bench.{number}")),
        ("size", "1000".to_owned()),
    ] {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name}={value}");
    }
    text.push('\n');
    text
}

/// What is asked for, of an answer that ends with an empty line.
fn answer(connection: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut action = None;
    let mut line = String::new();
    loop {
        line.clear();
        if connection.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end() {
            "" => break,
            said => action = action.or_else(|| said.strip_prefix("action=").map(str::to_owned)),
        }
    }
    action.ok_or_else(|| io::Error::other("an answer without an action"))
}

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
