//! What any Postfix of one's own has, whether it takes mail or sends it: directories, a
//! configuration, a master process, a log.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::Error;
use crate::netns::Namespace;
use crate::{interrupt, process};

/// How long a start, a stop or a delivery may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A Postfix under one directory. Dropping it stops it.
#[derive(Debug)]
pub(super) struct Instance {
    directory: PathBuf,
}

impl Instance {
    /// Makes what one needs under `directory`, which must not exist yet and whose parents everybody
    /// may enter. `settings` follow what every `main.cf` of this harness says, `services` what every
    /// `master.cf` does. Nothing runs yet.
    pub(super) fn prepare(directory: &Path, settings: &str, services: &str) -> Result<Self, Error> {
        let instance = Self {
            directory: directory.to_owned(),
        };
        for (name, mode) in [("etc", 0o755), ("queue", 0o755), ("data", 0o700)] {
            instance.make_directory(name, mode)?;
        }
        let (user, group) = mail_owner()?;
        instance.give("data", user, group)?;
        let root = directory
            .to_str()
            .ok_or_else(|| Error::Path(directory.to_owned()))?;
        let common = format!(
            "compatibility_level = 3.6
queue_directory = {root}/queue
data_directory = {root}/data
maillog_file = {root}/data/maillog
maillog_file_prefixes = {root}
mydestination =
alias_maps =
alias_database =
inet_protocols = all
smtp_host_lookup = native
"
        );
        instance.write("etc/main.cf", &(common + settings))?;
        instance.write("etc/master.cf", &(services.to_owned() + SERVICES))?;
        Ok(instance)
    }

    /// Starts it inside `namespace`. With `names`, names are those of its `etc/hosts`.
    pub(super) fn start(&self, namespace: &Namespace, names: bool) -> Result<(), Error> {
        let mut start = if names {
            self.start_with_names()
        } else {
            let mut command = self.program("postfix");
            command.arg("start");
            command
        };
        process::run_in(namespace, &mut start).map_err(|error| self.explain(error))?;
        interrupt::wait_for("Postfix's start", PATIENCE, || {
            Ok(self.log().contains("daemon started").then_some(()))
        })
        .map_err(|error| self.explain(error))
    }

    /// One of Postfix's programs that take `-c`.
    pub(super) fn program(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command.arg("-c").arg(self.path("etc"));
        command
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(super) fn write(&self, name: &str, content: &str) -> Result<(), Error> {
        let path = self.path(name);
        fs::write(&path, content).map_err(Error::io(format!("writing {}", path.display())))
    }

    pub(super) fn make_directory(&self, name: &str, mode: u32) -> Result<(), Error> {
        let path = self.path(name);
        let making = format!("making {}", path.display());
        fs::create_dir_all(&path).map_err(Error::io(&making))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(Error::io(&making))
    }

    pub(super) fn give(&self, name: &str, user: u32, group: u32) -> Result<(), Error> {
        let path = self.path(name);
        chown(&path, Some(user), Some(group))
            .map_err(Error::io(format!("giving {} away", path.display())))
    }

    /// Everything it logged so far.
    pub(super) fn log(&self) -> String {
        process::tail(&self.log_file(), usize::MAX)
    }

    pub(super) fn log_file(&self) -> PathBuf {
        self.path("data/maillog")
    }

    /// Its master process, while it runs.
    pub(super) fn pid(&self) -> Option<i32> {
        let text = fs::read_to_string(self.path("queue/pid/master.pid")).ok()?;
        let pid = text.trim().parse().ok()?;
        kill(Pid::from_raw(pid), None).is_ok().then_some(pid)
    }

    /// The error with the end of the log.
    pub(super) fn explain(&self, error: Error) -> Error {
        if matches!(error, Error::Interrupted) {
            return error;
        }
        let log = process::tail(&self.log_file(), 10);
        Error::unexpected(
            "Postfix did not do its part",
            format!("{}\n{log}", error.chain()),
        )
    }

    /// The start in a mount namespace of its own. What it starts stays there.
    fn start_with_names(&self) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-e", "-c"])
            .arg(
                "for file in hosts nsswitch.conf; do mount --bind \"$0/$file\" \"/etc/$file\"; done; \
                 exec postfix -c \"$0\" start",
            )
            .arg(self.path("etc"));
        command
    }
}

impl Drop for Instance {
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

/// The user and group Postfix's daemons run as.
fn mail_owner() -> Result<(u32, u32), Error> {
    let user = nix::unistd::User::from_name("postfix")
        .map_err(|errno| Error::io("looking up the user postfix")(errno.into()))?
        .ok_or_else(|| Error::unexpected("there should be a user postfix", "there is none"))?;
    Ok((user.uid.as_raw(), user.gid.as_raw()))
}

/// The services that any host needs, none of them chrooted: the milter's Unix socket and the mailbox
/// table lie outside the queue directory.
const SERVICES: &str = "\
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
