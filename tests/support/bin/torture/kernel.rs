//! The kernel filter under torture: an honest client that must always get through, and what others do
//! to the interface and to the pins.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use aya::{
    Ebpf, EbpfLoader,
    programs::{Xdp, XdpMode},
};
use greylist_ebpf::abi;
use socket2::{Domain, Socket, Type};
use support::{error::Error, interrupt::settle, netns::Namespace, process, requirements};

use super::{
    books::Count,
    ground::{Ground, HONEST, INTERFACE, MX, SENTENCED},
    load::Stop,
    sender::Desk,
};

/// Listens on the protected port, as Postfix would.
pub(crate) fn listen() -> Result<TcpListener, Error> {
    let listening = || {
        let listener = TcpListener::bind((MX, PORT))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    listening().map_err(Error::io("listening on the protected port"))
}

/// Takes its connections, and lets them go.
pub(crate) fn accept(listener: &TcpListener, stop: &Stop) {
    while !stop.is_set() {
        match listener.accept() {
            Ok((stream, _)) => drop(stream),
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Somebody who is never sentenced connects again and again, and is never dropped.
pub(crate) fn visit(desk: Desk<'_>, strangers: &Namespace, stop: &Stop) {
    strangers.run(|| {
        while !stop.is_set() {
            desk.books.count(Count::Connections);
            if let Err(error) = connect(HONEST) {
                let what = format!("{HONEST}, which is not sentenced, got no connection: {error}");
                desk.books.violate(desk.chronicle, Instant::now(), &what);
            }
            thread::sleep(Duration::from_millis(60));
        }
    });
}

/// How many of three connections of the sentenced client were dropped.
pub(crate) fn dropped_of_three(strangers: &Namespace) -> usize {
    strangers.run(|| (0..3).filter(|_| connect(SENTENCED).is_err()).count())
}

/// Whether the daemon says that the filter is on the interface.
pub(crate) fn is_on(ground: &Ground) -> Result<bool, Error> {
    let status = ground.greygate.ask(&["xdp", "status"])?;
    let interface = &status["filter"]["interfaces"][0];
    Ok(interface["mode"]
        .as_str()
        .is_some_and(|mode| mode != "detached"))
}

/// Takes off what a stopped daemon has left, as an operator does.
pub(crate) fn unload(ground: &Ground) -> Result<(), Error> {
    ground.greygate.run(&["xdp", "unload"]).map(drop)
}

/// A program of somebody else's on the interface, which goes with what this returns.
pub(crate) fn attach_foreign(mx: &Namespace) -> Result<Ebpf, Error> {
    let object = requirements::xdp_object()
        .map_err(|missing| Error::unexpected("the fault needs what is missing", missing))?;
    let bytes = fs::read(object).map_err(Error::io("reading the kernel program"))?;
    let loading = |error: &dyn std::fmt::Display| Error::unexpected("loading a program", error);
    let mut loader = EbpfLoader::new();
    loader.map_max_entries(abi::map::IPV4, 64);
    loader.map_max_entries(abi::map::IPV6, 64);
    let mut ebpf = loader.load(&bytes).map_err(|it| loading(&it))?;
    let program = ebpf.program_mut(abi::PROGRAM);
    let program = program.ok_or_else(|| loading(&"it is not there"))?;
    let program: &mut Xdp = program.try_into().map_err(|it| loading(&it))?;
    program.load().map_err(|it| loading(&it))?;
    mx.run(|| program.attach(INTERFACE, XdpMode::Skb))
        .map_err(|it| loading(&it))?;
    Ok(ebpf)
}

/// A map of somebody else's where the pins are to be.
pub(crate) fn pin_foreign(ground: &Ground) -> Result<(), Error> {
    let directory = ground.home.join("bpf/greygate");
    fs::create_dir_all(&directory).map_err(Error::io("making the pins' directory"))?;
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700))
        .map_err(Error::io("making it private"))?;
    let pin = directory.join(format!("link-{INTERFACE}"));
    let mut create = Command::new("bpftool");
    create.args(["map", "create"]).arg(pin);
    create.args([
        "type", "array", "key", "4", "value", "4", "entries", "1", "name", "somebody",
    ]);
    process::run(&mut create).map(drop)
}

/// It is taken away again.
pub(crate) fn unpin_foreign(ground: &Ground) -> Result<(), Error> {
    let pin = ground.home.join(format!("bpf/greygate/link-{INTERFACE}"));
    match fs::remove_file(pin) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("removing the foreign pin")(error))
        }
        _ => Ok(()),
    }
}

/// What is left of ours once the filter was unloaded, and the kernel has done what it does later: the
/// program goes with its last reference, by a worker of the kernel's.
pub(crate) fn remains(ground: &Ground, mx: &Namespace) -> Result<Vec<String>, Error> {
    let gone = || matches!(remain_now(ground, mx), Ok(remains) if remains.is_empty()).then_some(());
    let _gone = settle(GONE_AFTER, gone);
    remain_now(ground, mx)
}

fn remain_now(ground: &Ground, mx: &Namespace) -> Result<Vec<String>, Error> {
    let mut remains = Vec::new();
    if ground.home.join("bpf/greygate").exists() {
        remains.push("the directory of the pins".to_owned());
    }
    let link = mx.ip(&["-d", "link", "show", "dev", INTERFACE])?;
    if link.contains("prog/xdp") {
        remains.push(format!("a program on {INTERFACE}"));
    }
    Ok(remains)
}

fn connect(from: Ipv4Addr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(IpAddr::V4(from), 0).into())?;
    socket.connect_timeout(&SocketAddr::new(IpAddr::V4(MX), PORT).into(), DROPPED_AFTER)?;
    Ok(socket.into())
}

/// The port that is protected.
const PORT: u16 = 25;
/// How long the kernel may take to let a program go that nobody holds.
const GONE_AFTER: Duration = Duration::from_secs(5);
/// The first SYN that is lost comes again after a second.
const DROPPED_AFTER: Duration = Duration::from_millis(900);
