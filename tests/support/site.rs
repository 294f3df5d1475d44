//! A whole mail site on one machine: an MX host with Postfix and greygate, and two networks of
//! clients that call it.
//!
//! ```text
//!  client namespace                 MX namespace                      stranger namespace
//!  eth0 192.0.2.10 --------- mx0 192.0.2.1   198.51.100.1 mx1 --------- eth0 198.51.100.10
//!                            Postfix :25 -> greygate 127.0.0.1:8892          198.51.100.11
//!                                          2001:db8:1::1/48                  2001:db8:1:1::10
//!                                                                            2001:db8:1:1::11
//! ```
//!
//! The addresses are those of documentation (RFC 5737, 3849): greygate must not take the clients
//! for local ones, nor may they share a `/64` with the MX. The two networks are two client networks to it, and each arrives on a cable of
//! its own.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::bpffs::BpfFs;
use crate::error::Error;
use crate::greygate::Greygate;
use crate::netns::{self, End, Namespace};
use crate::postfix::{Postfix, Sender, World};
use crate::smtp::Client;
use crate::{interrupt, requirements};

/// The interfaces of the MX host that face clients.
pub const INTERFACES: [&str; 2] = ["mx0", "mx1"];

/// The addresses on the stranger's cable.
const STRANGERS: [&str; 4] = [
    "198.51.100.10/24",
    "198.51.100.11/24",
    "2001:db8:1:1::10/48",
    "2001:db8:1:1::11/48",
];

/// How the site is to be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The mailboxes of the domain, the names of clients, and what Postfix rejects by itself.
    pub world: World,
    /// Further addresses of the stranger's, with their prefix lengths.
    pub strangers: Vec<String>,
    /// Where greygate listens, in Postfix's form.
    pub endpoint: Endpoint,
    /// What Postfix does when greygate is away: `accept` or `tempfail`.
    pub default_action: &'static str,
    /// Whether the kernel filter guards [`INTERFACES`].
    pub kernel: bool,
    /// TOML over greygate's configuration.
    pub tweaks: String,
}

/// How Postfix reaches greygate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// TCP on loopback, port 8892.
    Inet,
    /// A Unix socket.
    Unix,
}

/// A running site. Dropping it takes everything away again.
#[derive(Debug)]
pub struct Site {
    // In the order of their end: what runs before what it runs in.
    postfix: Postfix,
    greygate: Greygate,
    client: Namespace,
    stranger: Namespace,
    mx: Namespace,
    _pins: Option<BpfFs>,
    directory: TempDir,
}

impl Site {
    /// Builds it and starts everything. Needs root, `ip`, Postfix and the daemon's binary, and the
    /// kernel program when the plan wants it.
    pub fn start(plan: &Plan) -> Result<Self, Error> {
        Self::start_on(plan, |_| Ok(()))
    }

    /// The same on an MX host that `prepare` was shown before greygate starts there.
    pub fn start_on(
        plan: &Plan,
        prepare: impl FnOnce(&Namespace) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        // From here on there is something to clean up.
        interrupt::watch();
        interrupt::check()?;
        let directory = tempfile::Builder::new()
            .prefix("greygate-")
            .permissions(fs::Permissions::from_mode(0o711))
            .tempdir()
            .map_err(Error::io("making a temporary directory"))?;
        let home = directory.path().join("greygate");
        let mx = Namespace::create("mx")?;
        let client = Namespace::create("client")?;
        let stranger = Namespace::create("stranger")?;
        netns::join(
            End {
                namespace: &mx,
                interface: INTERFACES[0],
                addresses: &["192.0.2.1/24"],
            },
            End {
                namespace: &client,
                interface: "eth0",
                addresses: &["192.0.2.10/24"],
            },
        )?;
        let further = plan.strangers.iter().map(String::as_str);
        let strangers: Vec<_> = STRANGERS.into_iter().chain(further).collect();
        netns::join(
            End {
                namespace: &mx,
                interface: INTERFACES[1],
                addresses: &["198.51.100.1/24", "2001:db8:1::1/48"],
            },
            End {
                namespace: &stranger,
                interface: "eth0",
                addresses: &strangers,
            },
        )?;

        fs::create_dir(&home).map_err(Error::io(format!("making {}", home.display())))?;
        let pins = plan.kernel.then(|| BpfFs::mount(home.join("bpf")));
        let pins = pins.transpose()?;
        let socket = home.join("milter.sock");
        let kernel = plan.kernel_configuration()?;
        let milter = plan.endpoint.configuration(&socket);
        prepare(&mx)?;
        let greygate = Greygate::start(&mx, &home, &[&kernel, &milter, &plan.tweaks])?;
        let milter = match plan.endpoint {
            Endpoint::Inet => "inet:127.0.0.1:8892".to_owned(),
            Endpoint::Unix => format!("unix:{}", socket.display()),
        };
        let milters = format!("{{ {milter}, default_action={} }}", plan.default_action);
        let postfix = directory.path().join("postfix");
        let postfix = Postfix::start(&mx, &postfix, &plan.world, &milters)?;
        Ok(Self {
            postfix,
            greygate,
            client,
            stranger,
            mx,
            _pins: pins,
            directory,
        })
    }

    /// The mail server.
    pub fn postfix(&self) -> &Postfix {
        &self.postfix
    }

    /// The greylister.
    pub fn greygate(&self) -> &Greygate {
        &self.greygate
    }

    /// The MX host's namespace.
    pub fn mx(&self) -> &Namespace {
        &self.mx
    }

    /// The namespace of the client's network.
    pub fn client_network(&self) -> &Namespace {
        &self.client
    }

    /// A sender of ordinary mail, in a network of its own.
    pub fn client(&self) -> Client<'_> {
        Client {
            namespace: &self.client,
            source: ([192, 0, 2, 10], 0).into(),
            server: ([192, 0, 2, 1], 25).into(),
        }
    }

    /// A host like the client that sends by a Postfix of its own, to `port` of the MX. `name` tells it
    /// from others.
    pub fn sender(&self, name: &str, port: u16) -> Result<Sender, Error> {
        let mut server = self.client().server;
        server.set_port(port);
        Sender::start(&self.client, &self.directory.path().join(name), server)
    }

    /// Somebody in another network.
    pub fn stranger(&self) -> Client<'_> {
        Client {
            namespace: &self.stranger,
            source: ([198, 51, 100, 10], 0).into(),
            server: ([198, 51, 100, 1], 25).into(),
        }
    }

    /// Somebody else on the stranger's cable, in the same `/24`.
    pub fn neighbour(&self) -> Client<'_> {
        Client {
            source: ([198, 51, 100, 11], 0).into(),
            ..self.stranger()
        }
    }

    /// The stranger, over IPv6.
    pub fn stranger_v6(&self) -> Client<'_> {
        Client {
            namespace: &self.stranger,
            source: ([0x2001, 0xdb8, 1, 1, 0, 0, 0, 0x10], 0).into(),
            server: ([0x2001, 0xdb8, 1, 0, 0, 0, 0, 1], 25).into(),
        }
    }

    /// The neighbour, over IPv6: another address in the same `/64`.
    pub fn neighbour_v6(&self) -> Client<'_> {
        Client {
            source: ([0x2001, 0xdb8, 1, 1, 0, 0, 0, 0x11], 0).into(),
            ..self.stranger_v6()
        }
    }

    /// Somebody else on the stranger's cable, at one of the plan's further addresses.
    pub fn stranger_at(&self, address: IpAddr) -> Client<'_> {
        Client {
            source: (address, 0).into(),
            ..match address {
                IpAddr::V4(_) => self.stranger(),
                IpAddr::V6(_) => self.stranger_v6(),
            }
        }
    }

    /// Ends greygate with SIGTERM; its state stays.
    pub fn stop_greygate(&mut self) -> Result<(), Error> {
        let status = self.greygate.stop()?;
        if status.success() {
            Ok(())
        } else {
            Err(Error::unexpected(
                "greygate should end with exit code 0",
                status,
            ))
        }
    }

    /// Ends greygate with SIGKILL.
    pub fn kill_greygate(&mut self) -> Result<(), Error> {
        self.greygate.kill().map(drop)
    }

    /// Starts greygate again.
    pub fn resume_greygate(&mut self) -> Result<(), Error> {
        self.greygate.resume(&self.mx)
    }

    /// What of this site can be seen from outside, to be looked for after its end.
    pub fn traces(&self) -> Traces {
        let namespaces = [&self.mx, &self.client, &self.stranger];
        let mut processes = vec![
            self.postfix.pid(),
            self.greygate.pid().map(u32::cast_signed),
        ];
        processes.retain(Option::is_some);
        Traces {
            directory: self.directory.path().to_owned(),
            namespaces: namespaces
                .map(|namespace| namespace.name().to_owned())
                .into(),
            processes: processes.into_iter().flatten().collect(),
        }
    }
}

/// What a site has left, or would leave, on the machine.
#[derive(Clone, Debug)]
pub struct Traces {
    /// Its directory.
    pub directory: PathBuf,
    /// The names of its network namespaces.
    pub namespaces: Vec<String>,
    /// Its processes: Postfix's master and greygate.
    pub processes: Vec<i32>,
}

impl Traces {
    /// Those that are still there, in words.
    pub fn remaining(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let directory = self.directory.display().to_string();
        if mounts.contains(&directory) {
            found.push(format!("a mount below {directory}"));
        }
        if self.directory.exists() {
            found.push(directory);
        }
        for name in &self.namespaces {
            if Path::new("/run/netns").join(name).exists() {
                found.push(format!("namespace {name}"));
            }
        }
        for pid in &self.processes {
            if Path::new("/proc").join(pid.to_string()).exists() {
                found.push(format!("process {pid}"));
            }
        }
        found
    }
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            world: World {
                mailboxes: vec!["alice".to_owned()],
                ..World::default()
            },
            strangers: Vec::new(),
            endpoint: Endpoint::Inet,
            default_action: "accept",
            kernel: false,
            tweaks: String::new(),
        }
    }
}

impl Plan {
    fn kernel_configuration(&self) -> Result<String, Error> {
        if !self.kernel {
            return Ok(String::new());
        }
        let object = requirements::xdp_object()
            .map_err(|missing| Error::unexpected("the plan needs what is missing", missing))?;
        Ok(format!(
            "[xdp]\ninterfaces = {INTERFACES:?}\nobject = \"{}\"\n",
            object.display()
        ))
    }
}

impl Endpoint {
    fn configuration(self, socket: &Path) -> String {
        match self {
            Self::Inet => String::new(),
            Self::Unix => format!("[milter]\nlisten = [\"unix:{}\"]\n", socket.display()),
        }
    }
}
