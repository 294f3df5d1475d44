//! Programs that the tests need from the distribution, and how to get them without starting their
//! services.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use nix::sys::signal::{SigSet, Signal};

use crate::command::{Failure, Run, find, is_root};

/// A program, or a file by its path, and the Debian package that brings it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
}

impl Need {
    const IP: Self = Self {
        program: "ip",
        package: "iproute2",
    };
    const BPFTOOL: Self = Self {
        program: "bpftool",
        package: "bpftool",
    };
    const POSTFIX: Self = Self {
        program: "postfix",
        package: "postfix",
    };
    const MILTERTEST: Self = Self {
        program: "miltertest",
        package: "miltertest",
    };

    const PROMTOOL: Self = Self {
        program: "promtool",
        package: "prometheus",
    };

    const XDP_FILTER: Self = Self {
        program: "xdp-filter",
        package: "xdp-tools",
    };
    const NFT: Self = Self {
        program: "nft",
        package: "nftables",
    };

    const CC: Self = Self {
        program: "cc",
        package: "gcc",
    };
    const LIBC: Self = Self {
        program: "/usr/include/stdio.h",
        package: "libc6-dev",
    };
    const LIBMILTER: Self = Self {
        program: "/usr/include/libmilter/mfapi.h",
        package: "libmilter-dev",
    };

    const MILTER_GREYLIST: Self = Self {
        program: "milter-greylist",
        package: "milter-greylist",
    };
    const POSTGREY: Self = Self {
        program: "postgrey",
        package: "postgrey",
    };
    const REDIS: Self = Self {
        program: "redis-server",
        package: "redis-server",
    };
    const REDIS_CLI: Self = Self {
        program: "redis-cli",
        package: "redis-tools",
    };
    const OPENSSL: Self = Self {
        program: "openssl",
        package: "openssl",
    };
    const RSPAMD: Self = Self {
        program: "rspamd",
        package: "rspamd",
    };
    const STRACE: Self = Self {
        program: "strace",
        package: "strace",
    };

    const DEBOOTSTRAP: Self = Self {
        program: "debootstrap",
        package: "debootstrap",
    };
    const DEBIANS_KEYS: Self = Self {
        program: "/usr/share/keyrings/debian-archive-keyring.gpg",
        package: "debian-archive-keyring",
    };
    const DPKG_DEB: Self = Self {
        program: "dpkg-deb",
        package: "dpkg",
    };
    const NSPAWN: Self = Self {
        program: "systemd-nspawn",
        package: "systemd-container",
    };

    /// Network namespaces and links, and an operator who takes a program off.
    pub(crate) const KERNEL: [Self; 2] = [Self::IP, Self::BPFTOOL];
    /// An MTA with its load generator, the reference implementation's test tool, and itself.
    pub(crate) const MTA: [Self; 6] = [
        Self::IP,
        Self::POSTFIX,
        Self::MILTERTEST,
        Self::CC,
        Self::LIBC,
        Self::LIBMILTER,
    ];
    /// An engine, and hosts in namespaces that share it.
    pub(crate) const SHARING: [Self; 3] = [Self::IP, Self::REDIS, Self::REDIS_CLI];
    /// Hosts in namespaces, and the engine that they share, certified.
    pub(crate) const CLUSTER: [Self; 5] = [
        Self::IP,
        Self::POSTFIX,
        Self::REDIS,
        Self::REDIS_CLI,
        Self::OPENSSL,
    ];
    /// A Debian to try the package on.
    pub(crate) const DIST: [Self; 5] = [
        Self::IP,
        Self::DEBOOTSTRAP,
        Self::DEBIANS_KEYS,
        Self::DPKG_DEB,
        Self::NSPAWN,
    ];
    /// What reads metrics and alert rules as Prometheus does.
    pub(crate) const WATCH: [Self; 1] = [Self::PROMTOOL];
    /// What the lab's story is played on.
    pub(crate) const LAB: [Self; 2] = [Self::IP, Self::POSTFIX];
    /// What the torture run traces with, turns the clock with and plays a stranger with.
    pub(crate) const TORTURE: [Self; 5] =
        [Self::IP, Self::BPFTOOL, Self::STRACE, Self::CC, Self::LIBC];
    /// What the kernel program is measured beside.
    pub(crate) const PEERS: [Self; 2] = [Self::XDP_FILTER, Self::NFT];
    /// What the daemon is measured beside, and where.
    pub(crate) const MILTER_PEERS: [Self; 4] = [Self::IP, Self::CC, Self::LIBC, Self::LIBMILTER];
    /// Greylisters that others wrote; not every distribution has them all.
    pub(crate) const GREYLISTERS: [Self; 4] = [
        Self::MILTER_GREYLIST,
        Self::POSTGREY,
        Self::REDIS,
        Self::RSPAMD,
    ];
}

/// Installs what is missing, as root on Debian and Ubuntu; gives back what is missing still.
pub(crate) fn ensure(needs: &[Need]) -> Vec<Need> {
    let missing = missing(needs);
    if missing.is_empty() || !is_root() || find("apt-get").is_none() {
        return missing;
    }
    eprintln!(
        "installing {} (no service of theirs is started)",
        names(&missing)
    );
    if let Err(failure) = install(&missing) {
        eprintln!("{failure}");
    }
    self::missing(needs)
}

/// Installs what is missing if the distribution has it: for what can be done without.
pub(crate) fn ensure_if_offered(need: Need) {
    if missing(&[need]).is_empty() {
        return;
    }
    // Where no list was fetched yet, apt knows of no package: then trying is how to find out.
    let known = |package| {
        let show = Run::new("apt-cache").args(["show", package]).quiet();
        show.capture().is_ok()
    };
    if known(need.package) || !known("apt") {
        ensure(&[need]);
    }
}

/// For people: programs with the packages that bring them.
pub(crate) fn names(needs: &[Need]) -> String {
    needs
        .iter()
        .map(|need| format!("{} (package {})", need.program, need.package))
        .collect::<Vec<_>>()
        .join(", ")
}

fn missing(needs: &[Need]) -> Vec<Need> {
    needs
        .iter()
        .filter(|need| find(need.program).is_none())
        .copied()
        .collect()
}

fn install(needs: &[Need]) -> Result<(), Failure> {
    // A Ctrl-C ends apt, not us, until the guard is gone again.
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
        .into_iter()
        .collect();
    let held = signals.thread_block().is_ok();
    let result = ServiceGuard::place(Path::new(POLICY)).and_then(|_guard| apt_install(needs));
    if held {
        // What arrived meanwhile takes effect here.
        signals
            .thread_unblock()
            .map_err(|errno| Failure::new("signals stay blocked", errno, "start again"))?;
    }
    result
}

fn apt_install(needs: &[Need]) -> Result<(), Failure> {
    let apt = || {
        Run::new("apt-get")
            .args([
                "-qq",
                "-o",
                "Acquire::Retries=3",
                "-o",
                "DPkg::Lock::Timeout=120",
            ])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .mend("look at the network and at /etc/apt, or install the packages by hand")
    };
    apt().arg("update").capture()?;
    apt()
        .args(["install", "--yes", "--no-install-recommends"])
        .args(needs.iter().map(|need| need.package))
        .capture()?;
    for (need, service) in SERVICES {
        if needs.contains(&need) {
            disable(service)?;
        }
    }
    Ok(())
}

/// Services that a package brings with the program.
const SERVICES: [(Need, &str); 6] = [
    (Need::MILTER_GREYLIST, "milter-greylist"),
    (Need::POSTFIX, "postfix"),
    (Need::POSTGREY, "postgrey"),
    (Need::PROMTOOL, "prometheus"),
    (Need::REDIS, "redis-server"),
    (Need::RSPAMD, "rspamd"),
];

/// Its package enables a service for the next boot.
fn disable(service: &str) -> Result<(), Failure> {
    let tool = ["systemctl", "update-rc.d"]
        .into_iter()
        .find(|tool| find(tool).is_some());
    match tool {
        Some("systemctl") => Run::new("systemctl").args(["disable", service]).capture()?,
        Some(tool) => Run::new(tool).args([service, "disable"]).capture()?,
        None => String::new(),
    };
    Ok(())
}

/// What `invoke-rc.d` asks before it starts a service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Answers "no" (101) to every start; the comment is how a later run knows it for ours.
const REFUSAL: &str = "#!/bin/sh\n\
    # placed by greygate's cargo xtask while it installs packages; safe to remove\n\
    exit 101\n";

/// Keeps packages from starting their services while it stands. An operator's own policy is left in
/// place.
struct ServiceGuard {
    placed: Option<PathBuf>,
}

impl ServiceGuard {
    fn place(policy: &Path) -> Result<Self, Failure> {
        // Ours can be there when an earlier run was killed: then it is ours to take away as well.
        let foreign = fs::read(policy).is_ok_and(|present| present != REFUSAL.as_bytes());
        if foreign {
            return Ok(Self { placed: None });
        }
        fs::write(policy, REFUSAL).map_err(Failure::file("write", policy))?;
        let guard = Self {
            placed: Some(policy.to_owned()),
        };
        fs::set_permissions(policy, fs::Permissions::from_mode(0o755))
            .map_err(Failure::file("make executable", policy))?;
        Ok(guard)
    }
}

impl Drop for ServiceGuard {
    fn drop(&mut self) {
        if let Some(policy) = &self.placed
            && let Err(error) = fs::remove_file(policy)
        {
            eprintln!("{} is left behind, remove it: {error}", policy.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let folder =
            std::env::temp_dir().join(format!("greygate-xtask-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("the temporary folder is writable");
        folder
    }

    #[test]
    fn guard_stands_only_while_it_is_held() {
        let folder = scratch("guard");
        let policy = folder.join("policy-rc.d");

        let guard = ServiceGuard::place(&policy).expect("the folder is writable");
        let mode = fs::metadata(&policy)
            .expect("it stands")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o755);
        drop(guard);

        assert!(!policy.exists());
        fs::remove_dir_all(folder).expect("the test's own folder can be removed");
    }

    #[test]
    fn guard_leaves_an_operators_policy_alone() {
        let folder = scratch("policy");
        let policy = folder.join("policy-rc.d");
        fs::write(&policy, "#!/bin/sh\nexit 0\n").expect("the folder is writable");

        drop(ServiceGuard::place(&policy).expect("nothing is to be written"));

        assert_eq!(
            fs::read_to_string(&policy).ok().as_deref(),
            Some("#!/bin/sh\nexit 0\n")
        );
        fs::remove_dir_all(folder).expect("the test's own folder can be removed");
    }

    #[test]
    fn guard_takes_away_what_a_killed_run_left() {
        let folder = scratch("leftover");
        let policy = folder.join("policy-rc.d");
        fs::write(&policy, REFUSAL).expect("the folder is writable");

        drop(ServiceGuard::place(&policy).expect("the folder is writable"));

        assert!(!policy.exists());
        fs::remove_dir_all(folder).expect("the test's own folder can be removed");
    }

    #[test]
    fn names_programs_with_their_packages() {
        assert_eq!(
            names(&Need::LAB),
            "ip (package iproute2), postfix (package postfix)"
        );
    }
}
