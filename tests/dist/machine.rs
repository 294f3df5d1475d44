//! A machine to install things on: Debian in a container, with a cable to the world.
//!
//! systemd-nspawn lays a file system in memory over the image, so that the image stays as it is and
//! nothing is left. Commands are run inside by entering the namespaces of the machine's first
//! process.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::MutexGuard;
use std::time::Duration;

use support::error::Error;
use support::interrupt;
use support::netns::{End, Namespace, join};
use support::process::{self, Service};
use support::smtp::{Client, Message, Round};
use tempfile::TempDir;

use crate::{Equipment, turn};

/// Somebody with a mailbox here.
pub(crate) const MAILBOX: &str = "ann@lab.example";

/// The line of `docs/install.md` for main.cf.
pub(crate) const MILTER: &str = "{ unix:greygate/milter.sock, default_action=accept }";

/// A running Debian, and its neighbour that sends mail.
pub(crate) struct Machine {
    // Ends before what it stands on.
    nspawn: Service,
    init: u32,
    world: Namespace,
    _own: Namespace,
    directory: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Machine {
    /// Boots one, with Postfix as Debian sets it up, the packages in `/root`, and no greygate.
    pub(crate) fn boot(equipment: &Equipment) -> Result<Self, Error> {
        let turn = turn();
        let own = Namespace::create("machine")?;
        let world = Namespace::create("world")?;
        join(
            End {
                namespace: &own,
                interface: INTERFACE,
                addresses: &["192.0.2.25/24"],
            },
            End {
                namespace: &world,
                interface: "up0",
                addresses: &["192.0.2.1/24", "192.0.2.2/24", "192.0.2.3/24"],
            },
        )?;
        let directory = tempfile::tempdir().map_err(Error::io("making a directory"))?;
        for (package, name) in equipment.packages.iter().zip(PACKAGES) {
            process::copy_program(package, &directory.path().join(name))?;
        }
        let log = directory.path().join("console");
        let namespace = format!("/run/netns/{}", own.name());
        let mut command = Command::new("systemd-nspawn");
        command
            .args(["--quiet", "--register=no", "--keep-unit"])
            .args(["--link-journal=no", "--console=pipe"])
            .args(["--resolv-conf=off", "--timezone=off"])
            .args(["--volatile=overlay", "--hostname=mx"])
            // What a root of a real machine has, and the kernel filter wants.
            .args(["--capability=CAP_NET_ADMIN,CAP_BPF"])
            .args(["--system-call-filter=bpf"])
            .arg(format!("--network-namespace-path={namespace}"))
            .arg(format!("--bind-ro={}:/root", directory.path().display()))
            .arg(format!("--directory={}", equipment.image.display()))
            .args(["--boot", "systemd.unit=multi-user.target"]);
        let mut nspawn = Service::start(&world, &mut command, &log)?;
        let init = interrupt::wait_for("the first process of the machine", PATIENCE, || {
            nspawn.check_alive()?;
            Ok(first_process(nspawn.pid()))
        })?;
        let machine = Self {
            nspawn,
            init,
            world,
            _own: own,
            directory,
            _turn: turn,
        };
        machine.wait("the boot", |machine| {
            let state = machine.tell("systemctl is-system-running");
            state.trim() == "running"
        })?;
        machine.run(&format!(
            "useradd --create-home ann
             postconf -e myhostname=mx.lab.example mydestination=lab.example inet_interfaces=all \
                inet_protocols=ipv4 mynetworks=127.0.0.0/8 smtpd_relay_restrictions=reject_unauth_destination \
                smtpd_peername_lookup=no

             systemctl restart postfix"
        ))?;
        Ok(machine)
    }

    /// Runs a shell script inside, as root; an error when it fails.
    pub(crate) fn run(&self, script: &str) -> Result<String, Error> {
        process::run(&mut self.command(script))
    }

    /// Runs a shell script inside and returns what it printed, however it ended.
    pub(crate) fn tell(&self, script: &str) -> String {
        match self.command(script).output() {
            Ok(output) => {
                String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
            }
            Err(error) => error.to_string(),
        }
    }

    /// Waits until something can be seen inside.
    pub(crate) fn wait(&self, what: &str, seen: impl Fn(&Self) -> bool) -> Result<(), Error> {
        let waited = interrupt::wait_for(what, PATIENCE, || Ok(seen(self).then_some(())));
        waited.map_err(|error| {
            eprintln!(
                "{}",
                process::tail(&self.directory.path().join("console"), 30)
            );
            eprintln!(
                "{}",
                self.tell("systemctl --failed --no-pager; journalctl -n 40 --no-pager")
            );
            error
        })
    }

    /// A client outside, by the last number of its address: 1, 2 or 3.
    pub(crate) fn client(&self, last: u8) -> Client<'_> {
        Client {
            namespace: &self.world,
            source: SocketAddr::new(IpAddr::from([192, 0, 2, last]), 0),
            server: SocketAddr::new(IpAddr::from([192, 0, 2, 25]), 25),
        }
    }

    /// One attempt of client 1 to deliver `message` to [`MAILBOX`].
    pub(crate) fn attempt(&self, message: &Message) -> Result<Round, Error> {
        Ok(self.client(1).attempt(message, &[MAILBOX.to_owned()])?)
    }

    /// Waits until the mailbox has the message whose body has `word` in it.
    pub(crate) fn wait_for_delivery(&self, word: &str) -> Result<(), Error> {
        self.wait(&format!("the delivery of {word}"), |machine| {
            machine.tell("cat /var/mail/ann").contains(word)
        })
    }

    /// Installs one of the packages as an operator does.
    pub(crate) fn install(&self, package: &str) -> Result<String, Error> {
        self.run(&format!(
            "DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet=2 /root/{package} 2>&1"
        ))
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.init))
            .args([
                "--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd",
            ])
            .args(["--", "/usr/bin/timeout", "--kill-after=5", "120"])
            .args(["/bin/sh", "-e", "-c", script])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C")
            .current_dir("/");
        command
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "{}",
                self.tell("journalctl -n 60 --no-pager; systemctl --failed --no-pager")
            );
        }
        // Asked once, nspawn lets the machine shut down; asked twice, which the service's own end is,
        // it ends it at once.
        let _ended_already = self.nspawn.signal(nix::sys::signal::Signal::SIGTERM);
    }
}

/// The machine's interface to the world.
pub(crate) const INTERFACE: &str = "mx0";

/// What the packages are called in `/root`.
pub(crate) const PACKAGES: [&str; 2] = ["greygate.deb", "upgrade.deb"];

/// A message of one sender, told apart by `word`.
pub(crate) fn message(word: &str) -> Message {
    Message::new("sender@remote.example", word)
}

/// The machine's first process, once it is itself: it is a child of nspawn's, as are others that go
/// again.
fn first_process(nspawn: u32) -> Option<u32> {
    let path = format!("/proc/{nspawn}/task/{nspawn}/children");
    let children = fs::read_to_string(path).ok()?;
    let mut children = children
        .split_whitespace()
        .filter_map(|child| child.parse().ok());
    children.find(|child: &u32| {
        let status = fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
        let is_first = |line: &str| line.starts_with("NSpid:") && line.ends_with("\t1");
        status.starts_with("Name:\tsystemd\n") && status.lines().any(is_first)
    })
}

/// How long anything inside may take.
const PATIENCE: Duration = Duration::from_secs(60);
