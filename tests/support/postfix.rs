//! A real Postfix of one's own: private configuration, queue and mailboxes, in a namespace.
//!
//! Everything lives under one directory; the machine's own Postfix, running or not, is not touched.
//! Error limits, process limits and timeouts are Postfix's defaults, because they are what a
//! greylister has to live with.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::Error;
use crate::netns::Namespace;
use crate::{interrupt, process};

/// The mail domain it is the MX of.
pub const DOMAIN: &str = "lab.example";

/// The address of one of its mailboxes.
pub fn address(mailbox: &str) -> String {
    format!("{mailbox}@{DOMAIN}")
}

/// Who owns the mailboxes: `nobody`.
const MAILBOX_OWNER: u32 = 65_534;

/// How long a start or a stop may take.
const PATIENCE: Duration = Duration::from_secs(20);

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
    directory: PathBuf,
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
        let postfix = Self {
            directory: directory.to_owned(),
        };
        for (name, mode) in [("etc", 0o755), ("queue", 0o755), ("data", 0o700)] {
            make_directory(&directory.join(name), mode)?;
        }
        let mail = directory.join("mail");
        make_directory(&mail, 0o755)?;
        chown(&mail, Some(MAILBOX_OWNER), Some(MAILBOX_OWNER))
            .map_err(Error::io(format!("giving {} away", mail.display())))?;
        let (user, group) = mail_owner()?;
        let data = directory.join("data");
        chown(&data, Some(user), Some(group))
            .map_err(Error::io(format!("giving {} away", data.display())))?;

        postfix.write("etc/main.cf", &main_cf(directory, world, milters)?)?;
        postfix.write("etc/master.cf", MASTER_CF)?;
        let known = world
            .mailboxes
            .iter()
            .fold(String::new(), |table, mailbox| {
                table + &format!("{} {mailbox}/\n", address(mailbox))
            });
        postfix.write("etc/mailboxes", &known)?;
        let hosts = world.names.iter().fold(String::new(), |hosts, (ip, name)| {
            hosts + &format!("{ip} {name}\n")
        });
        postfix.write("etc/hosts", &hosts)?;
        postfix.write("etc/nsswitch.conf", "hosts: files\n")?;
        let forbidden = world.forbidden_subject.iter();
        let checks = forbidden.fold(String::new(), |checks, subject| {
            checks + &format!("/^Subject: {subject}$/ REJECT 5.7.1 This is spam\n")
        });
        postfix.write("etc/header_checks", &checks)?;

        let mut start = if world.names.is_empty() {
            postfix.command("start")
        } else {
            postfix.command_with_names("start")
        };
        process::run_in(namespace, &mut start).map_err(|error| postfix.explain(error))?;
        interrupt::wait_for("Postfix's start", PATIENCE, || {
            Ok(postfix.log().contains("daemon started").then_some(()))
        })
        .map_err(|error| postfix.explain(error))?;
        Ok(postfix)
    }

    /// What was delivered to `mailbox` so far, oldest first, as the whole files.
    pub fn delivered(&self, mailbox: &str) -> Result<Vec<String>, Error> {
        let directory = self.directory.join("mail").join(mailbox).join("new");
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
        .map_err(|error| self.explain(error))
    }

    /// Everything it logged so far.
    pub fn log(&self) -> String {
        process::tail(&self.log_file(), usize::MAX)
    }

    /// Where it logs to.
    pub fn log_file(&self) -> PathBuf {
        self.directory.join("data/maillog")
    }

    /// Its master process, while it runs.
    pub fn pid(&self) -> Option<i32> {
        let text = fs::read_to_string(self.directory.join("queue/pid/master.pid")).ok()?;
        let pid = text.trim().parse().ok()?;
        kill(Pid::from_raw(pid), None).is_ok().then_some(pid)
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new("postfix");
        command.arg("-c").arg(self.directory.join("etc")).arg(verb);
        command
    }

    /// The same in a mount namespace of its own, where names are those of `etc/hosts`. What it starts
    /// stays there.
    fn command_with_names(&self, verb: &str) -> Command {
        let etc = self.directory.join("etc");
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-e", "-c"])
            .arg(
                "for file in hosts nsswitch.conf; do mount --bind \"$0/$file\" \"/etc/$file\"; done; \
                 exec postfix -c \"$0\" \"$1\"",
            )
            .arg(etc)
            .arg(verb);
        command
    }

    fn explain(&self, error: Error) -> Error {
        if matches!(error, Error::Interrupted) {
            return error;
        }
        let log = process::tail(&self.log_file(), 10);
        Error::unexpected(
            "Postfix did not do its part",
            format!("{}\n{log}", error.chain()),
        )
    }

    fn write(&self, name: &str, content: &str) -> Result<(), Error> {
        let path = self.directory.join(name);
        fs::write(&path, content).map_err(Error::io(format!("writing {}", path.display())))
    }
}

impl Drop for Postfix {
    /// What `postfix stop` does, which sleeps a second or more.
    fn drop(&mut self) {
        let Some(pid) = self.pid() else {
            return;
        };
        // A signal fails only when there is nobody left to end, which is what is wanted.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let gone = || kill(Pid::from_raw(pid), None).is_err().then_some(());
        if interrupt::settle(PATIENCE, gone).is_none() {
            // The master leads a process group of its own: its children go with it.
            let _ = kill(Pid::from_raw(-pid), Signal::SIGKILL);
        }
    }
}

fn make_directory(path: &Path, mode: u32) -> Result<(), Error> {
    let making = format!("making {}", path.display());
    fs::create_dir_all(path).map_err(Error::io(&making))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(Error::io(&making))
}

/// The user and group Postfix's daemons run as.
fn mail_owner() -> Result<(u32, u32), Error> {
    let user = nix::unistd::User::from_name("postfix")
        .map_err(|errno| Error::io("looking up the user postfix")(errno.into()))?
        .ok_or_else(|| Error::unexpected("there should be a user postfix", "there is none"))?;
    Ok((user.uid.as_raw(), user.gid.as_raw()))
}

fn main_cf(directory: &Path, world: &World, milters: &str) -> Result<String, Error> {
    let directory = directory
        .to_str()
        .ok_or_else(|| Error::Path(directory.to_owned()))?;
    let lookup = if world.names.is_empty() { "no" } else { "yes" };
    Ok(format!(
        "compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
maillog_file = {directory}/data/maillog
maillog_file_prefixes = {directory}
myhostname = mx.{DOMAIN}
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = all
inet_protocols = all
# There is no name server in the namespace: names are those of the hosts file, if there are any.
smtpd_peername_lookup = {lookup}
smtp_host_lookup = native
header_checks = regexp:{directory}/etc/header_checks
alias_maps =
alias_database =
virtual_mailbox_domains = {DOMAIN}
virtual_mailbox_maps = texthash:{directory}/etc/mailboxes
virtual_mailbox_base = {directory}/mail
virtual_uid_maps = static:{MAILBOX_OWNER}
virtual_gid_maps = static:{MAILBOX_OWNER}
smtpd_milters = {milters}
"
    ))
}

/// The services a receiving host needs, none of them chrooted: the milter's Unix socket and the
/// mailbox table lie outside the queue directory.
const MASTER_CF: &str = "\
smtp      inet  n  -  n  -      -  smtpd
pickup    unix  n  -  n  60     1  pickup
cleanup   unix  n  -  n  -      0  cleanup
qmgr      unix  n  -  n  300    1  qmgr
rewrite   unix  -  -  n  -      -  trivial-rewrite
bounce    unix  -  -  n  -      0  bounce
defer     unix  -  -  n  -      0  bounce
trace     unix  -  -  n  -      0  bounce
verify    unix  -  -  n  -      1  verify
flush     unix  n  -  n  1000?  0  flush
proxymap  unix  -  -  n  -      -  proxymap
showq     unix  n  -  n  -      -  showq
error     unix  -  -  n  -      -  error
retry     unix  -  -  n  -      -  error
discard   unix  -  -  n  -      -  discard
smtp      unix  -  -  n  -      -  smtp
local     unix  -  n  n  -      -  local
virtual   unix  -  n  n  -      -  virtual
anvil     unix  -  -  n  -      1  anvil
scache    unix  -  -  n  -      1  scache
postlog   unix-dgram n - n -    1  postlogd
";
