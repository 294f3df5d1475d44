//! The place where all is measured: two namespaces, and a cable between them for each program.
//!
//! Nothing of the machine's own network or file systems is touched: this process has its own mounts.

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, unshare},
    unistd::Pid,
};
use support::{
    Error,
    bpffs::BpfFs,
    netns::{End, Namespace, join},
};

/// The two namespaces.
pub(crate) struct Yard {
    /// Where frames arrive and are judged.
    pub(crate) mx: Namespace,
    /// Where they are sent from.
    pub(crate) clients: Namespace,
    /// Where xdp-filter pins its maps.
    _bpffs: BpfFs,
}

/// A cable of the yard, by the names of its ends.
pub(crate) struct Cable {
    /// The end in [`Yard::mx`].
    pub(crate) mx: String,
    /// The number of the end in [`Yard::clients`].
    pub(crate) client_index: u32,
}

impl Yard {
    /// Takes this process, which must have one thread yet, out of the machine's mounts and binds it
    /// to one CPU, then sets up the namespaces.
    pub(crate) fn new() -> Result<Self, Error> {
        unshare(CloneFlags::CLONE_NEWNS)
            .and_then(|()| {
                let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
                mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
            })
            .map_err(|errno| Error::io("making mounts of our own")(errno.into()))?;
        pin()?;
        Ok(Self {
            mx: Namespace::create("mx")?,
            clients: Namespace::create("clients")?,
            _bpffs: BpfFs::mount("/sys/fs/bpf")?,
        })
    }

    /// Lays another cable.
    pub(crate) fn cable(&self, name: &str) -> Result<Cable, Error> {
        let (mx, client) = (format!("mx-{name}"), format!("client-{name}"));
        join(
            End {
                namespace: &self.mx,
                interface: &mx,
                addresses: &[],
            },
            End {
                namespace: &self.clients,
                interface: &client,
                addresses: &[],
            },
        )?;
        let link = link(&self.clients, &client)?;
        let client_index = link["ifindex"]
            .as_u64()
            .and_then(|index| u32::try_from(index).ok())
            .ok_or_else(|| Error::unexpected("a link with a number", &link))?;
        Ok(Cable { mx, client_index })
    }

    /// The number of the XDP program on one of the MX's interfaces.
    pub(crate) fn program(&self, interface: &str) -> Result<u32, Error> {
        let link = link(&self.mx, interface)?;
        link["xdp"]["prog"]["id"]
            .as_u64()
            .and_then(|id| u32::try_from(id).ok())
            .ok_or_else(|| Error::unexpected(format!("a program on {interface}"), &link))
    }
}

fn link(namespace: &Namespace, interface: &str) -> Result<serde_json::Value, Error> {
    let json = namespace.ip(&["-details", "-json", "link", "show", "dev", interface])?;
    serde_json::from_str::<serde_json::Value>(&json)
        .ok()
        .and_then(|mut links| links.get_mut(0).map(serde_json::Value::take))
        .ok_or_else(|| Error::unexpected(format!("the link {interface} as JSON"), json))
}

/// Binds this process, and what it will start, to one CPU: the last it may use, since the first
/// often serves the interrupts.
fn pin() -> Result<(), Error> {
    let this = Pid::from_raw(0);
    let pinned = sched_getaffinity(this).and_then(|allowed| {
        let last = (0..CpuSet::count()).rfind(|cpu| allowed.is_set(*cpu).unwrap_or(false));
        let mut one = CpuSet::new();
        one.set(last.unwrap_or(0))?;
        sched_setaffinity(this, &one)
    });
    pinned.map_err(|errno| Error::io("binding the benchmark to one CPU")(errno.into()))
}
