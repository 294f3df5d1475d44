//! What a blocked client and the MX still have to say to each other: everything but a new
//! connection to a protected port. Real sockets, over a cable, in both modes.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use greygate::{
    clock::{Clock as _, SystemClock},
    kernel::{Change, Mode, ObtainedMode},
    policy::SentenceLevel,
};
use socket2::{Domain, Protocol, Socket, Type};
use support::{needs, netns::Namespace, requirements};

use crate::stage::{CASTS, Cast, INTERFACE, Stage, assert_alive, on, sentence};

/// Far more than a cable inside one machine takes.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn block_touches_nothing_else_natively() {
    block_touches_nothing_else(Mode::NativeRequired, ObtainedMode::Native);
}

#[test]
fn block_touches_nothing_else_in_generic_mode() {
    block_touches_nothing_else(Mode::Generic, ObtainedMode::Generic);
}

fn block_touches_nothing_else(mode: Mode, obtained: ObtainedMode) {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    let mut settings = stage.settings(&object, mode);
    settings.ports = vec![25, 587];
    let mut filter = stage.open(&settings);
    assert_eq!(on(filter.as_ref()).interfaces[0].mode, obtained);
    for Cast { sentenced, mx, .. } in &CASTS {
        let block = sentence(sentenced, SentenceLevel::Block, Duration::from_hours(1));
        filter
            .apply(&[Change::Put(block)], SystemClock.now())
            .expect("there is room");
        stage.assert_dropped(sentenced, mx);

        finds_its_neighbour_anew(&stage, sentenced, mx);
        echoes(&stage, sentenced, mx).expect("an answer to the ping");
        resolver_hears_its_answer(&stage, sentenced, mx).expect("an answer to the query");
        mx_delivers_to(&stage, sentenced, mx).expect("a connection of the MX's own");
        datagram_arrives_in_fragments(&stage, sentenced, mx).expect("a whole datagram");
        stage.assert_served(sentenced, mx, 22);
        stage.assert_dropped(sentenced, mx);
    }
}

#[test]
fn jumbo_frames_are_no_reason_for_generic_mode() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_object()
    );
    let stage = Stage::new();
    for (namespace, interface) in [(&stage.mx, INTERFACE), (&stage.clients, "client0")] {
        namespace
            .ip(&["link", "set", interface, "mtu", "9000"])
            .expect("a veth takes any MTU");
    }
    let Cast { sentenced, mx, .. } = CASTS[0];
    let mut before = stage.connect(sentenced, mx, 25).expect("nobody is blocked");
    let mut filter = stage.open(&stage.settings(&object, Mode::NativeRequired));
    assert_eq!(on(filter.as_ref()).interfaces[0].mode, ObtainedMode::Native);
    let block = sentence(sentenced, SentenceLevel::Block, Duration::from_hours(1));
    filter
        .apply(&[Change::Put(block)], SystemClock.now())
        .expect("there is room");
    stage.assert_dropped(sentenced, mx);
    assert_alive(&mut before);
    let sent = vec![b'x'; 64 << 10];
    let mut received = vec![0; sent.len()];
    thread::scope(|scope| {
        let mut half = before.try_clone().expect("a second descriptor");
        let sent = &sent;
        scope.spawn(move || half.write_all(sent).expect("a connection that takes data"));
        before.read_exact(&mut received).expect("jumbo frames");
    });
    assert_eq!(received, sent);
}

/// ARP and neighbour discovery, from fresh caches on both sides.
fn finds_its_neighbour_anew(stage: &Stage, client: &str, mx: &str) {
    for namespace in [&stage.mx, &stage.clients] {
        namespace
            .ip(&["neigh", "flush", "all"])
            .expect("one's own cache can be emptied");
    }
    let before = stage.mx.ip(&["neigh", "show", client]).expect("ip");
    assert!(!before.contains("lladdr"), "{before}");
    echoes(stage, client, mx).expect("both are found anew");
    let after = stage.mx.ip(&["neigh", "show", client]).expect("ip");
    assert!(after.contains("lladdr"), "{after}");
}

/// ICMP echo, as `ping` sends it.
fn echoes(stage: &Stage, from: &str, to: &str) -> io::Result<()> {
    let (from, to) = (address(from), address(to));
    let (protocol, request, answer) = match to {
        IpAddr::V4(_) => (Protocol::ICMPV4, 8, 0),
        IpAddr::V6(_) => (Protocol::ICMPV6, 128, 129),
    };
    // Type, code, checksum, identifier, sequence number. The kernel sums up ICMPv6 by itself.
    let mut echo = [request, 0, 0, 0, 0x47, 0x47, 0, 1];
    if to.is_ipv4() {
        let sum = !(u16::from(request) << 8)
            .wrapping_add(0x4747)
            .wrapping_add(1);
        echo[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    stage.clients.run(|| {
        let domain = Domain::for_address(SocketAddr::new(to, 0));
        let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        socket.send_to(&echo, &SocketAddr::new(to, 0).into())?;
        let mut buffer = [0; 256];
        loop {
            let length = (&socket).read(&mut buffer)?;
            let heard = &buffer[..length];
            // A raw socket shows the IPv4 header, and whatever else of its protocol arrives.
            let message = if to.is_ipv4() { &heard[20..] } else { heard };
            if message.first() == Some(&answer) && message[4..] == echo[4..] {
                return Ok(());
            }
        }
    })
}

/// A query of the MX's resolver, answered by the blocked client's name server.
fn resolver_hears_its_answer(stage: &Stage, client: &str, mx: &str) -> io::Result<()> {
    let server = udp(&stage.clients, client, 53)?;
    let resolver = udp(&stage.mx, mx, 0)?;
    resolver.send_to(b"who is it?", server.local_addr()?)?;
    let mut buffer = [0; 64];
    let (length, asker) = server.recv_from(&mut buffer)?;
    server.send_to(&buffer[..length], asker)?;
    let (length, sender) = resolver.recv_from(&mut buffer)?;
    assert_eq!(&buffer[..length], b"who is it?");
    assert_eq!(sender, server.local_addr()?);
    Ok(())
}

/// Mail that goes the other way: the client's answer is a SYN too, with an ACK.
fn mx_delivers_to(stage: &Stage, client: &str, mx: &str) -> io::Result<()> {
    let at = SocketAddr::new(address(client), 25);
    let listener = stage.clients.run(|| TcpListener::bind(at))?;
    let stream: TcpStream = stage.mx.run(|| {
        let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
        // From a protected port: the answer is spared for what it is, not for where it goes.
        socket.bind(&SocketAddr::new(address(mx), 587).into())?;
        socket.connect_timeout(&at.into(), PATIENCE)?;
        io::Result::Ok(socket.into())
    })?;
    let (mut accepted, _) = listener.accept()?;
    accepted.write_all(b"220 client\r\n")?;
    let mut greeting = [0; 12];
    (&stream).read_exact(&mut greeting)?;
    assert_eq!(&greeting, b"220 client\r\n");
    Ok(())
}

/// More than a frame holds: the later fragments have no ports to look at.
fn datagram_arrives_in_fragments(stage: &Stage, client: &str, mx: &str) -> io::Result<()> {
    let receiver = udp(&stage.mx, mx, 25)?;
    let sender = udp(&stage.clients, client, 0)?;
    let sent = [b'x'; 5_000];
    sender.send_to(&sent, receiver.local_addr()?)?;
    let mut buffer = [0; 8_192];
    let length = receiver.recv(&mut buffer)?;
    assert_eq!(buffer[..length], sent);
    Ok(())
}

fn udp(namespace: &Namespace, at: &str, port: u16) -> io::Result<UdpSocket> {
    let at = SocketAddr::new(address(at), port);
    let socket = namespace.run(|| UdpSocket::bind(at))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
