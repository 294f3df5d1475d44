//! Two namespaces and a cable: the MX, and a host with several addresses that plays its clients.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{RwLock, RwLockReadGuard, RwLockWriteGuard},
    thread,
    time::Duration,
};

use aya::{
    maps::{Map, MapData, MapInfo},
    programs::loaded_programs,
};
use greygate::{
    clock::{Clock as _, SystemClock},
    kernel::{FilterStatus, KernelFilter, Mode, OnStatus, Settings},
    policy::{Offence, Persistence, Sentence, SentenceLevel, SentenceReason, SentencedClient},
};
use ipnet::IpNet;
use socket2::{Domain, Socket, Type};
use support::{
    bpffs::BpfFs,
    interrupt::settle,
    netns::{End, Namespace, join},
};
use tempfile::TempDir;

/// Sentences that fit, unless a test says otherwise.
pub(crate) const CAPACITY: u32 = 16;
/// The MX's interface.
pub(crate) const INTERFACE: &str = "mx0";
/// The other end of the cable.
pub(crate) const CLIENT_INTERFACE: &str = "client0";
/// How long a client waits before it calls a connection dropped: a served one takes microseconds,
/// and the first retransmission comes after a second.
const DROPPED_AFTER: Duration = Duration::from_millis(600);
/// How long a connection that must be served may take on a busy machine.
const SERVED_WITHIN: Duration = Duration::from_secs(10);
/// The kernel does it in a thread of its own, which may have to wait for others.
const LETTING_GO: Duration = Duration::from_secs(20);

/// The addresses of one family, each where it plays its part.
pub(crate) struct Cast {
    /// Who gets sentenced.
    pub(crate) sentenced: &'static str,
    /// Who does not; on IPv6 in another `/64`.
    pub(crate) other: &'static str,
    /// The MX, as the sentenced client reaches it.
    pub(crate) mx: &'static str,
    /// The MX, as the other client reaches it.
    pub(crate) mx_for_other: &'static str,
}

/// One cast for each address family.
pub(crate) const CASTS: [Cast; 2] = [
    Cast {
        sentenced: "192.0.2.7",
        other: "192.0.2.8",
        mx: "192.0.2.1",
        mx_for_other: "192.0.2.1",
    },
    Cast {
        sentenced: "2001:db8:0:7::7",
        other: "2001:db8:0:8::8",
        mx: "2001:db8:0:7::1",
        mx_for_other: "2001:db8:0:8::1",
    },
];

/// A stage's settings with a bpffs of its own for the pins.
pub(crate) fn with_bpffs(stage: &Stage, object: &Path) -> (Settings, BpfFs) {
    let bpffs = BpfFs::mount(stage.path("bpf")).expect("root may mount a bpffs");
    let settings = Settings {
        pin: true,
        pin_directory: bpffs.directory().join("greygate"),
        ..stage.settings(object, Mode::NativePreferred)
    };
    (settings, bpffs)
}

/// The two namespaces, with listeners on ports 25 and 22 of the MX that greet and echo.
pub(crate) struct Stage {
    pub(crate) mx: Namespace,
    pub(crate) clients: Namespace,
    pub(crate) directory: TempDir,
    _alone_or_not: Guard,
}

/// `panic` detaches what other tests have attached, so it needs the kernel for itself.
enum Guard {
    Shared {
        _guard: RwLockReadGuard<'static, ()>,
    },
    Alone {
        _guard: RwLockWriteGuard<'static, ()>,
    },
}

static KERNEL: RwLock<()> = RwLock::new(());

impl Stage {
    /// A stage beside those of other tests.
    pub(crate) fn new() -> Self {
        let guard = KERNEL
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        Self::set(Guard::Shared { _guard: guard })
    }

    /// A stage while no other test has one.
    pub(crate) fn alone() -> Self {
        let guard = KERNEL
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        Self::set(Guard::Alone { _guard: guard })
    }

    fn set(guard: Guard) -> Self {
        let mx = Namespace::create("mx").expect("a namespace");
        let clients = Namespace::create("clients").expect("a namespace");
        lay_cable(&mx, &clients);
        for listener in ["0.0.0.0:25", "[::]:25", "0.0.0.0:22", "[::]:22"] {
            listen(&mx, listener.parse().expect("an address"));
        }
        Self {
            mx,
            clients,
            directory: tempfile::tempdir().expect("a temporary directory"),
            _alone_or_not: guard,
        }
    }

    /// Settings for the MX's interface that touch nothing outside this stage.
    pub(crate) fn settings(&self, object: &Path, mode: Mode) -> Settings {
        Settings {
            interfaces: vec![INTERFACE.to_owned()],
            mode,
            object: object.to_owned(),
            pin_directory: self.path("no-bpffs/greygate"),
            panic_file: self.path("xdp-panic"),
            pin: false,
            capacity: CAPACITY,
            ..Settings::default()
        }
    }

    /// A map of the program on the MX's interface, for a stranger with the rights of root.
    pub(crate) fn map(&self, name: &str) -> Map {
        let program = self.program().expect("a program on the interface");
        let ids = loaded_programs()
            .filter_map(Result::ok)
            .find(|info| u64::from(info.id()) == program)
            .and_then(|info| info.map_ids().ok().flatten())
            .expect("root may ask for the maps of a program");
        let id = ids
            .into_iter()
            .find(|id| MapInfo::from_id(*id).is_ok_and(|info| info.name_as_str() == Some(name)))
            .expect("the program has the map");
        MapData::from_id(id)
            .and_then(Map::from_map_data)
            .expect("root may open it")
    }

    /// A path of this stage's own.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Opens the filter that a daemon on the MX would open.
    pub(crate) fn open(&self, settings: &Settings) -> Box<dyn KernelFilter> {
        self.mx.run(|| greygate::kernel::open(settings))
    }

    /// Connects from one address to another, and reads the greeting.
    pub(crate) fn connect(&self, from: &str, to: &str, port: u16) -> io::Result<TcpStream> {
        self.connect_within(SERVED_WITHIN, from, to, port)
    }

    /// Tries port 25 once, for a moment: what a client meets just now.
    pub(crate) fn knock(&self, from: &str, to: &str) -> io::Result<TcpStream> {
        self.connect_within(DROPPED_AFTER, from, to, 25)
    }

    /// Tries another port once, for a moment.
    pub(crate) fn knock_at(&self, from: &str, to: &str, port: u16) -> io::Result<TcpStream> {
        self.connect_within(DROPPED_AFTER, from, to, port)
    }

    /// Tries port 25 once, for no longer than `patience`.
    pub(crate) fn knock_for(
        &self,
        patience: Duration,
        from: &str,
        to: &str,
    ) -> io::Result<TcpStream> {
        self.connect_within(patience, from, to, 25)
    }

    fn connect_within(
        &self,
        patience: Duration,
        from: &str,
        to: &str,
        port: u16,
    ) -> io::Result<TcpStream> {
        let from = SocketAddr::new(address(from), 0);
        let to = SocketAddr::new(address(to), port);
        self.clients.run(|| {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
            socket.bind(&from.into())?;
            socket.connect_timeout(&to.into(), patience)?;
            let mut stream = TcpStream::from(socket);
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            let mut greeting = [0; GREETING.len()];
            stream.read_exact(&mut greeting)?;
            assert_eq!(&greeting, GREETING);
            Ok(stream)
        })
    }

    /// Asserts that the kernel swallows the connection: no answer, not even a reset.
    pub(crate) fn assert_dropped(&self, from: &str, to: &str) {
        let error = self.knock(from, to).expect_err("it should be dropped");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{from}: {error}");
    }

    /// Asserts that a connection is made and served.
    pub(crate) fn assert_served(&self, from: &str, to: &str, port: u16) {
        if let Err(error) = self.connect(from, to, port) {
            panic!("{from} to {to} port {port}: {error}");
        }
    }

    /// The number of the XDP program on the MX's interface, as `ip` sees it.
    pub(crate) fn program(&self) -> Option<u64> {
        self.program_on(INTERFACE)
    }

    /// Waits until there is none: the kernel lets go of a link that was pinned in its own time.
    pub(crate) fn wait_until_unloaded(&self) {
        let gone = settle(LETTING_GO, || self.program().is_none().then_some(()));
        assert!(gone.is_some(), "{:?}", self.program());
    }

    /// The number of the XDP program on an interface of the MX.
    pub(crate) fn program_on(&self, interface: &str) -> Option<u64> {
        let json = self
            .mx
            .ip(&["-details", "-json", "link", "show", "dev", interface])
            .expect("ip can show the link");
        let links: serde_json::Value = serde_json::from_str(&json).expect("ip prints JSON");
        links[0]["xdp"]["prog"]["id"].as_u64()
    }
}

/// Joins the MX's interface with the clients'.
pub(crate) fn lay_cable(mx: &Namespace, clients: &Namespace) {
    join(
        End {
            namespace: mx,
            interface: INTERFACE,
            addresses: &["192.0.2.1/24", "2001:db8:0:7::1/64", "2001:db8:0:8::1/64"],
        },
        End {
            namespace: clients,
            interface: CLIENT_INTERFACE,
            addresses: &[
                "192.0.2.7/24",
                "192.0.2.8/24",
                "2001:db8:0:7::7/64",
                "2001:db8:0:8::8/64",
            ],
        },
    )
    .expect("a cable");
}

/// A sentence that begins now, of whoever is sentenced for an address, or of a network.
pub(crate) fn sentence(client: &str, level: SentenceLevel, lasts: Duration) -> Sentence {
    let now = SystemClock.now();
    let client = match client.parse::<IpNet>() {
        Ok(network) => SentencedClient::try_from(network).expect("it can be sentenced"),
        Err(_) => SentencedClient::of(address(client)),
    };
    Sentence {
        client,
        level,
        reason: SentenceReason::Offence(Offence::RapidRetries),
        since: now,
        until: now.after(lasts),
        persistence: Persistence::default(),
    }
}

/// The status of a filter that must be attached.
pub(crate) fn on(filter: &dyn KernelFilter) -> OnStatus {
    match filter.status() {
        FilterStatus::On(status) => status,
        FilterStatus::Off { why } => panic!("the filter is off: {why}"),
    }
}

/// Asserts that a connection made earlier still carries data both ways.
pub(crate) fn assert_alive(stream: &mut TcpStream) {
    stream
        .write_all(b"NOOP\r\n")
        .expect("the connection takes data");
    let mut echo = [0; 6];
    stream
        .read_exact(&mut echo)
        .expect("the connection gives data");
    assert_eq!(&echo, b"NOOP\r\n");
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Greets each connection and echoes until the client closes. The threads end with the test's
/// process; their sockets keep no namespace's name.
fn listen(namespace: &Namespace, at: SocketAddr) {
    let listener = namespace.run(|| {
        let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
        if at.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&at.into())?;
        socket.listen(16)?;
        io::Result::Ok(TcpListener::from(socket))
    });
    let listener = listener.expect("a fresh namespace has every port free");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || echo(stream));
        }
    });
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(GREETING)?;
    let mut buffer = [0; 512];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..length])?;
    }
}

const GREETING: &[u8; 10] = b"220 stage\n";
