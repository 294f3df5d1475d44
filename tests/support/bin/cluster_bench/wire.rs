//! What goes over the wire between hosts and engine: the kernel's own count at the engine's end of each
//! connection. A host has two, that of its questions, which it makes first, and that of what it tells.

use std::{collections::BTreeMap, process::Command};

use support::{Error, process};

use crate::site::{Engine, PORT};

/// Bytes so far, of all hosts' connections.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) questions: Flow,
    pub(crate) changes: Flow,
}

/// Bytes of TCP's payload in each direction.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flow {
    pub(crate) to_engine: f64,
    pub(crate) from_engine: f64,
}

impl Traffic {
    /// What has gone over the wire so far.
    pub(crate) fn of(engine: &Engine) -> Result<Self, Error> {
        let clients = engine.say(&["client", "list"])?;
        let mut ss = Command::new("ss");
        ss.args(["-HtinO", "state", "established", "sport"]);
        ss.arg(format!("= :{PORT}"));
        let sockets = process::run_in(&engine.namespace, &mut ss)?;
        read(&clients, &sockets)
            .ok_or_else(|| Error::unexpected("two connections of each host", sockets))
    }

    /// What has gone over it since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            questions: self.questions.since(before.questions),
            changes: self.changes.since(before.changes),
        }
    }
}

impl Flow {
    /// The share of each of so many.
    pub(crate) fn over(self, many: f64) -> Self {
        Self {
            to_engine: self.to_engine / many,
            from_engine: self.from_engine / many,
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            to_engine: self.to_engine - before.to_engine,
            from_engine: self.from_engine - before.from_engine,
        }
    }

    fn add(&mut self, other: Self) {
        self.to_engine += other.to_engine;
        self.from_engine += other.from_engine;
    }
}

/// Sorts what `ss` says of the sockets by what `CLIENT LIST` says of the clients.
fn read(clients: &str, sockets: &str) -> Option<Traffic> {
    // By host, and there by the number that the engine gave the connection.
    let mut connections: BTreeMap<&str, BTreeMap<u64, &str>> = BTreeMap::new();
    for client in clients.lines() {
        let field = |name| {
            let mut fields = client.split(' ');
            fields.find_map(|it| it.strip_prefix(name)?.strip_prefix('='))
        };
        let address = field("addr")?;
        let (host, _) = address.rsplit_once(':')?;
        // What asks here is on the engine's own machine.
        if host != "127.0.0.1" {
            let of_host = connections.entry(host).or_default();
            of_host.insert(field("id")?.parse().ok()?, address);
        }
    }
    let mut traffic = Traffic::default();
    for of_host in connections.values() {
        let mut of_host = of_host.values();
        traffic.questions.add(flow(sockets, of_host.next()?)?);
        traffic.changes.add(flow(sockets, of_host.next()?)?);
    }
    Some(traffic)
}

/// What went over the connection with `peer`. Until the first byte went there is no count of it.
fn flow(sockets: &str, peer: &str) -> Option<Flow> {
    let socket = sockets
        .lines()
        .find(|line| line.split_whitespace().any(|word| word == peer))?;
    let counted = |name| {
        let mut words = socket.split_whitespace();
        let count = words.find_map(|it| it.strip_prefix(name)?.strip_prefix(':'));
        count.map_or(Some(0.0), |it| it.parse().ok())
    };
    Some(Flow {
        to_engine: counted("bytes_received")?,
        from_engine: counted("bytes_acked")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_connection_of_a_host_asks_and_the_other_tells() {
        let clients = "id=9 addr=10.9.1.2:400 laddr=10.9.0.1:6379 cmd=evalsha user=default\n\
                       id=12 addr=127.0.0.1:500 laddr=127.0.0.1:6379 cmd=client|list\n\
                       id=7 addr=10.9.1.2:401 laddr=10.9.0.1:6379 cmd=get user=default\n";
        let sockets = "0 0 10.9.0.1:6379 10.9.1.2:400 cubic bytes_sent:5 bytes_acked:4 bytes_received:3\n\
                       0 0 10.9.0.1:6379 10.9.1.2:401 cubic bytes_sent:2 bytes_acked:2 bytes_received:1\n";
        let traffic = read(clients, sockets).expect("two connections of one host");
        let all = [traffic.questions, traffic.changes].map(|it| [it.to_engine, it.from_engine]);
        assert_eq!(all, [[1.0, 2.0], [3.0, 4.0]].map(|it: [f64; 2]| it));
        assert!(read(clients, "").is_none(), "a connection has gone");
    }
}
