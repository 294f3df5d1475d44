//! A real Postfix of one's own: private configuration, queue and mailboxes, in a namespace.
//!
//! Everything lives under one directory; the machine's own Postfix, running or not, is not touched.
//! Error limits, process limits and timeouts are Postfix's defaults, because they are what a
//! greylister has to live with.

mod instance;
mod sender;

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::interrupt;
use crate::netns::Namespace;

use instance::{Instance, PATIENCE};
pub use sender::{Sender, Tried};

/// The mail domain it is the MX of.
pub const DOMAIN: &str = "lab.example";

/// The address of one of its mailboxes.
pub fn address(mailbox: &str) -> String {
    format!("{mailbox}@{DOMAIN}")
}

/// The port whose smtpd runs as Postfix runs it under stress, when all its processes are busy: it
/// hangs up after the first error.
pub const STRESSED_PORT: u16 = 2525;

/// Who owns the mailboxes: `nobody`.
const MAILBOX_OWNER: u32 = 65_534;

/// What it knows of the world outside.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The mailboxes of [`DOMAIN`].
    pub mailboxes: Vec<String>,
    /// The reverse names of clients, each of which leads back to its address. With none, names are
    /// not looked up.
    pub names: Vec<(IpAddr, String)>,
    /// `Subject:` of messages that are rejected when they are complete, as a content filter would.
    pub forbidden_subject: Option<String>,
}

/// A running Postfix. Dropping it stops it.
#[derive(Debug)]
pub struct Postfix {
    instance: Instance,
}

impl Postfix {
    /// Starts one inside `namespace`, with everything it writes under `directory`, which must not
    /// exist yet and whose parents everybody may enter.
    ///
    /// It listens on every address of the namespace, takes mail for the mailboxes at [`DOMAIN`] and
    /// asks `milters` (Postfix's `smtpd_milters`) first.
    pub fn start(
        namespace: &Namespace,
        directory: &Path,
        world: &World,
        milters: &str,
    ) -> Result<Self, Error> {
        let settings = settings(directory, world, milters);
        let instance = Instance::prepare(directory, &settings, &services())?;
        instance.make_directory("mail", 0o755)?;
        instance.give("mail", MAILBOX_OWNER, MAILBOX_OWNER)?;
        let known = world
            .mailboxes
            .iter()
            .fold(String::new(), |table, mailbox| {
                table + &format!("{} {mailbox}/\n", address(mailbox))
            });
        instance.write("etc/mailboxes", &known)?;
        let hosts = world.names.iter().fold(String::new(), |hosts, (ip, name)| {
            hosts + &format!("{ip} {name}\n")
        });
        instance.write("etc/hosts", &hosts)?;
        instance.write("etc/nsswitch.conf", "hosts: files\n")?;
        let forbidden = world.forbidden_subject.iter();
        let checks = forbidden.fold(String::new(), |checks, subject| {
            checks + &format!("/^Subject: {subject}$/ REJECT 5.7.1 This is spam\n")
        });
        instance.write("etc/header_checks", &checks)?;
        instance.start(namespace, !world.names.is_empty())?;
        Ok(Self { instance })
    }

    /// What was delivered to `mailbox` so far, oldest first, as the whole files.
    pub fn delivered(&self, mailbox: &str) -> Result<Vec<String>, Error> {
        let directory = self.instance.path("mail").join(mailbox).join("new");
        if !directory.exists() {
            return Ok(Vec::new());
        }
        let reading = format!("reading {}", directory.display());
        let mut messages = Vec::new();
        for entry in fs::read_dir(&directory).map_err(Error::io(&reading))? {
            let path = entry.map_err(Error::io(&reading))?.path();
            let content = fs::read(&path).map_err(Error::io(&reading))?;
            messages.push((path, String::from_utf8_lossy(&content).into_owned()));
        }
        // A maildir name begins with the time of delivery.
        messages.sort();
        Ok(messages.into_iter().map(|(_, message)| message).collect())
    }

    /// Waits until a message with `mark` somewhere in it lies in `mailbox`, and returns it.
    pub fn wait_for_delivery(&self, mailbox: &str, mark: &str) -> Result<String, Error> {
        let what = format!("the delivery of {mark} to {mailbox}");
        interrupt::wait_for(&what, PATIENCE, || {
            let messages = self.delivered(mailbox)?;
            Ok(messages.into_iter().find(|message| message.contains(mark)))
        })
        .map_err(|error| self.instance.explain(error))
    }

    /// Everything it logged so far.
    pub fn log(&self) -> String {
        self.instance.log()
    }

    /// Waits until it has logged such a text: its log is another process's work.
    pub fn wait_for_log(&self, text: &str) -> Result<(), Error> {
        let what = format!("{text:?} in Postfix's log");
        interrupt::wait_for(&what, PATIENCE, || {
            Ok(self.log().contains(text).then_some(()))
        })
        .map_err(|error| self.instance.explain(error))
    }

    /// Where it logs to.
    pub fn log_file(&self) -> PathBuf {
        self.instance.log_file()
    }

    /// Its master process, while it runs.
    pub fn pid(&self) -> Option<i32> {
        self.instance.pid()
    }
}

fn settings(directory: &Path, world: &World, milters: &str) -> String {
    let directory = directory.display();
    let lookup = if world.names.is_empty() { "no" } else { "yes" };
    format!(
        "myhostname = mx.{DOMAIN}
mynetworks = 127.0.0.0/8
inet_interfaces = all
# There is no name server in the namespace: names are those of the hosts file, if there are any.
smtpd_peername_lookup = {lookup}
header_checks = regexp:{directory}/etc/header_checks
virtual_mailbox_domains = {DOMAIN}
virtual_mailbox_maps = texthash:{directory}/etc/mailboxes
virtual_mailbox_base = {directory}/mail
virtual_uid_maps = static:{MAILBOX_OWNER}
virtual_gid_maps = static:{MAILBOX_OWNER}
# Room for a body of many pieces.
message_size_limit = 30000000
smtpd_milters = {milters}
"
    )
}

/// What a receiving host listens on.
fn services() -> String {
    format!(
        "smtp      inet  n  -  n  -      -  smtpd
{STRESSED_PORT}      inet  n  -  n  -      -  smtpd -o stress=yes
"
    )
}
