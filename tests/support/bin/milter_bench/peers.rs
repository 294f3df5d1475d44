//! Filters that do as little as can be done, from `tests/peers`: `cargo xtask bench` compiles them.

use std::{
    env,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use support::{
    Error,
    bench::server::{Server, Speech},
    interrupt,
    netns::Namespace,
    process::Service,
};

/// One epoll loop that owes the same answers.
pub(crate) const FLOOR: &str = "floor";
/// The same, owing none that can be left out: what reads a message with the fewest round trips.
pub(crate) const SILENT: &str = "floor, silent";
/// A C libmilter filter.
pub(crate) const LIBMILTER: &str = "libmilter";

/// The peers, running.
#[derive(Debug)]
pub(crate) struct Peers {
    services: Vec<(&'static Program, Server, Service)>,
}

/// A peer that is not running yet.
#[derive(Debug)]
struct Program {
    name: &'static str,
    /// Whether it reads messages, or defers at RCPT.
    reads: bool,
    port: u16,
    command: &'static [&'static str],
}

impl Peers {
    /// Starts all.
    pub(crate) fn start(namespace: &Arc<Namespace>, directory: &Path) -> Result<Self, Error> {
        let built = env::var_os("GREYGATE_PEERS").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers"),
            PathBuf::from,
        );
        let services = PROGRAMS
            .iter()
            .map(|program| program.start(&built, namespace, directory))
            .collect::<Result<_, _>>()?;
        Ok(Self { services })
    }

    /// The one of this name that reads messages, or that does not.
    pub(crate) fn named(&self, name: &str, reads: bool) -> Result<&Server, Error> {
        self.services
            .iter()
            .find(|(program, ..)| program.name == name && program.reads == reads)
            .map(|(_, server, _)| server)
            .ok_or_else(|| Error::unexpected("there should be a peer", name))
    }
}

impl Program {
    fn start(
        &'static self,
        built: &Path,
        namespace: &Arc<Namespace>,
        directory: &Path,
    ) -> Result<(&'static Self, Server, Service), Error> {
        let (program, arguments) = self.command.split_first().expect("a command has a name");
        let mut command = Command::new(built.join(program));
        let log = directory.join("peers.log");
        let mut service = Service::start(namespace, command.args(arguments), &log)?;
        let address = wait_for(&mut service, program, self.port, namespace)?;
        let server = Server {
            name: self.name,
            namespace: Arc::clone(namespace),
            speech: Speech::Milter(address),
            started: vec![service.pid()],
        };
        Ok((self, server, service))
    }
}

/// Waits until somebody listens at this port.
pub(crate) fn wait_for(
    service: &mut Service,
    program: &str,
    port: u16,
    namespace: &Namespace,
) -> Result<SocketAddr, Error> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let connect = || namespace.run(|| TcpStream::connect(address)).ok();
    interrupt::wait_for(&format!("the start of {program}"), PATIENCE, || {
        service.check_alive()?;
        Ok(connect())
    })?;
    Ok(address)
}

/// All peers. The numbers are the steps to ask for: those of greygate's by which replies or commands
/// are left out, and then all of that kind.
const PROGRAMS: [Program; 5] = [
    Program {
        name: FLOOR,
        reads: false,
        port: 8901,
        command: &["floor", "8901", "0x871c0", "rcpt"],
    },
    Program {
        name: FLOOR,
        reads: true,
        port: 8902,
        command: &["floor", "8902", "0x871c0", "end"],
    },
    Program {
        name: SILENT,
        reads: true,
        port: 8903,
        command: &["floor", "8903", "0x9f1c0", "end"],
    },
    Program {
        name: LIBMILTER,
        reads: false,
        port: 8904,
        command: &["libmilter_empty", "inet:8904@127.0.0.1"],
    },
    Program {
        name: LIBMILTER,
        reads: true,
        port: 8905,
        command: &["libmilter_read", "inet:8905@127.0.0.1"],
    },
];
/// How long a start may take: milter-greylist reads a database, rspamd compiles its patterns.
const PATIENCE: Duration = Duration::from_mins(5);
