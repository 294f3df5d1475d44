//! Greylisters that others wrote, as their packages set them up: each with its files below one
//! directory and its sockets in a namespace. One that is not installed is [`Absent`].

use std::{
    env,
    fs::{self, File},
    io::BufWriter,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use support::{
    Error,
    bench::{
        fill,
        policy_service::PolicyService,
        report::Absent,
        server::{Server, Speech},
    },
    netns::Namespace,
    process::Service,
};

use crate::peers::wait_for;

/// With a million tuples in its database.
pub(crate) const MILTER_GREYLIST: &str = "milter-greylist, 1 M tuples";
/// It decides at the end of a message.
pub(crate) const RSPAMD: &str = "rspamd, a message of 4 KiB";
/// A policy service: no milter, and a connection that is kept.
pub(crate) const POSTGREY: &str = "Postgrey, connection kept";

/// A greylister, running until it is dropped.
#[derive(Debug)]
pub(crate) struct Greylister {
    pub(crate) server: Server,
    _services: Vec<Service>,
}

/// One that may not be there.
pub(crate) type Found = Result<Greylister, Absent>;

/// milter-greylist: `GREYGATE_MILTER_GREYLIST`, or on PATH.
pub(crate) fn milter_greylist(
    namespace: &Arc<Namespace>,
    directory: &Path,
) -> Result<Found, Error> {
    let named = env::var_os("GREYGATE_MILTER_GREYLIST").map(PathBuf::from);
    let Some(program) = named.or_else(|| find("milter-greylist")) else {
        return Ok(Err(Absent {
            what: MILTER_GREYLIST.to_owned(),
            why:
                "no such program; --milter-greylist PATH names one.\n    On 2026-11-21, 4.6.2 took \
                  366 µs a session on a machine of this kind (docs/benchmarks.md)"
                    .to_owned(),
        }));
    };
    let directory = below(directory, "milter-greylist")?;
    let database = directory.join("greylist.db");
    let file = File::create(&database).map_err(Error::io("writing milter-greylist's database"))?;
    fill::dump(BufWriter::new(file), MILLION)
        .map_err(Error::io("writing milter-greylist's database"))?;
    let shown = directory.display();
    let configuration = directory.join("greylist.conf");
    write(
        &configuration,
        &format!(
            "pidfile \"{shown}/pid\"\n\
             socket \"inet:{MILTER_GREYLIST_PORT}@127.0.0.1\"\n\
             dumpfile \"{shown}/greylist.db\" 600\n\
             dumpfreq -1\n\
             user \"root\"\n\
             quiet\n\
             nospf\n\
             subnetmatch /24\n\
             timeout 5d\n\
             racl greylist default delay 30m autowhite 1d\n"
        ),
    )?;
    let mut command = Command::new(&program);
    command.arg("-D").arg("-f").arg(&configuration);
    let log = directory.join("log");
    let mut service = Service::start(namespace, &mut command, &log)?;
    let address = wait_for(
        &mut service,
        "milter-greylist",
        MILTER_GREYLIST_PORT,
        namespace,
    )?;
    Ok(Ok(Greylister {
        server: Server {
            name: MILTER_GREYLIST,
            namespace: Arc::clone(namespace),
            speech: Speech::Milter(address),
            started: vec![service.pid()],
        },
        _services: vec![service],
    }))
}

/// rspamd as its package configures it, but for what asks the network, and with greylisting for
/// whatever comes; and the Redis that it keeps its records in.
pub(crate) fn rspamd(namespace: &Arc<Namespace>, directory: &Path) -> Result<Found, Error> {
    let (Some(rspamd), Some(redis)) = (find("rspamd"), find("redis-server")) else {
        return Ok(Err(Absent {
            what: RSPAMD.to_owned(),
            why: "no such program (packages rspamd and redis-server)".to_owned(),
        }));
    };
    let directory = below(directory, "rspamd")?;
    let mut command = Command::new(redis);
    command
        .args(["--port", &REDIS_PORT.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
        .arg("--dir")
        .arg(&directory);
    let mut redis = Service::start(namespace, &mut command, &directory.join("redis.log"))?;
    wait_for(&mut redis, "redis-server", REDIS_PORT, namespace)?;
    for (file, text) in RSPAMD_OVERRIDES {
        let folder = below(&directory, "override.d")?;
        write(&folder.join(file), text)?;
    }
    for module in RSPAMD_ASKS {
        let folder = below(&directory, "override.d")?;
        write(&folder.join(format!("{module}.conf")), "enabled = false;\n")?;
    }
    let shown = directory.to_str();
    let shown = shown.ok_or_else(|| Error::Path(directory.clone()))?;
    let mut command = Command::new(rspamd);
    command.args(["-f", "-i", "-u", "root", "-g", "root"]);
    for place in ["RUNDIR", "DBDIR", "LOGDIR", "LOCAL_CONFDIR"] {
        command.arg(format!("--var={place}={shown}"));
    }
    let mut service = Service::start(namespace, &mut command, &directory.join("log"))?;
    let address = wait_for(&mut service, "rspamd", RSPAMD_PORT, namespace)?;
    Ok(Ok(Greylister {
        server: Server {
            name: RSPAMD,
            namespace: Arc::clone(namespace),
            speech: Speech::Milter(address),
            started: vec![service.pid(), redis.pid()],
        },
        _services: vec![service, redis],
    }))
}

/// Postgrey, with an empty database.
pub(crate) fn postgrey(namespace: &Arc<Namespace>, directory: &Path) -> Result<Found, Error> {
    let Some(program) = find("postgrey") else {
        return Ok(Err(Absent {
            what: POSTGREY.to_owned(),
            why: "no such program (package postgrey)".to_owned(),
        }));
    };
    let directory = below(directory, "postgrey")?;
    let mut command = Command::new(program);
    command
        .arg(format!("--inet=127.0.0.1:{POSTGREY_PORT}"))
        .arg(format!("--dbdir={}", directory.display()))
        .arg(format!("--pidfile={}/pid", directory.display()))
        .args(["--user=root", "--group=root"]);
    let mut service = Service::start(namespace, &mut command, &directory.join("log"))?;
    let address = wait_for(&mut service, "postgrey", POSTGREY_PORT, namespace)?;
    Ok(Ok(Greylister {
        server: Server {
            name: POSTGREY,
            namespace: Arc::clone(namespace),
            speech: Speech::Policy(Arc::new(PolicyService::new(address))),
            started: vec![service.pid()],
        },
        _services: vec![service],
    }))
}

fn below(directory: &Path, name: &str) -> Result<PathBuf, Error> {
    let folder = directory.join(name);
    fs::create_dir_all(&folder).map_err(Error::io(format!("making {}", folder.display())))?;
    Ok(folder)
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(Error::io(format!("writing {}", path.display())))
}

fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

/// Tuples of milter-greylist's.
pub(crate) const MILLION: u32 = 1_000_000;
const MILTER_GREYLIST_PORT: u16 = 8906;
const POSTGREY_PORT: u16 = 8907;
const REDIS_PORT: u16 = 8908;
/// Where the package has its milter.
const RSPAMD_PORT: u16 = 11_332;
/// Every message is a case for greylisting, and none for anything else.
const RSPAMD_OVERRIDES: [(&str, &str); 4] = [
    (
        "actions.conf",
        "greylist = -100;\nadd_header = 1000;\nreject = 2000;\n",
    ),
    ("redis.conf", "servers = \"127.0.0.1:8908\";\n"),
    (
        "options.inc",
        "dns { nameserver = [\"127.0.0.1:53\"]; timeout = 0.1s; retransmits = 1; }\n",
    ),
    ("worker-proxy.inc", "count = 1;\n"),
];
/// Modules that ask the network, which is not there.
const RSPAMD_ASKS: [&str; 12] = [
    "arc",
    "asn",
    "dkim",
    "dmarc",
    "fuzzy_check",
    "mx_check",
    "phishing",
    "rbl",
    "rspamd_update",
    "spf",
    "surbl",
    "url_redirector",
];
