//! The ground of a run: namespaces, a small disk, a clock to turn, and the daemon on it.
//!
//! Everything is in a mount namespace of this process, so that it goes with the process, and in network
//! namespaces of its own. Knows how the daemon is started, ended and traced; leaves when to
//! [`super::faults`].

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Seek as _},
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use nix::mount::{MsFlags, mount, umount2};
use support::{
    bpffs::BpfFs,
    error::Error,
    greygate::Greygate,
    netns::{self, End, Namespace},
    process, requirements,
};
use tempfile::TempDir;

use super::{
    chance::Chance,
    cut,
    disk::{Contents, Disk, Pace},
    trace::{Parser, Seen},
};

/// Where mail comes in, and where who is sentenced is dropped.
pub(crate) const INTERFACE: &str = "mx0";
/// The MX and its neighbours on the cable: one who is never sentenced, and one who is.
pub(crate) const MX: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
pub(crate) const HONEST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
pub(crate) const SENTENCED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 66);
/// Where the milter and the metrics are, inside the MX's namespace.
pub(crate) const MILTER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8892);
pub(crate) const METRICS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9892);

/// The ground. Dropping it ends the daemon and takes everything away, but for the logs where something
/// went wrong.
#[derive(Debug)]
pub(crate) struct Ground {
    // In the order of their end.
    pub(crate) greygate: Greygate,
    tracer: Option<Tracer>,
    _pins: BpfFs,
    _disk: SmallDisk,
    pub(crate) strangers: Arc<Namespace>,
    pub(crate) home: PathBuf,
    base: String,
    clock: File,
    directory: Option<TempDir>,
}

/// How it is to be laid out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Whether the daemon's system calls are traced.
    pub(crate) traces: bool,
    /// The `[store] journal` to set, where the daemon has one.
    pub(crate) journal: bool,
}

impl Ground {
    /// Lays it out and starts the daemon.
    pub(crate) fn lay(mx: &Namespace, plan: Plan) -> Result<Self, Error> {
        let directory = tempfile::Builder::new()
            .prefix("greygate-torture-")
            .tempdir()
            .map_err(Error::io("making a temporary directory"))?;
        let home = directory.path().to_owned();
        let strangers = Arc::new(Namespace::create("strangers")?);
        netns::join(
            End {
                namespace: mx,
                interface: INTERFACE,
                addresses: &[&format!("{MX}/24")],
            },
            End {
                namespace: &strangers,
                interface: "eth0",
                addresses: &[&format!("{HONEST}/24"), &format!("{SENTENCED}/24")],
            },
        )?;
        let disk = SmallDisk::mount(&home.join("disk"))?;
        let pins = BpfFs::mount(home.join("bpf"))?;
        let state = home.join("disk/state");
        fs::create_dir(&state).map_err(Error::io("making the store's directory"))?;
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(&state, private).map_err(Error::io("making it private"))?;
        let (clock, library) = turned_clock(&home)?;
        let base = configuration(&home, plan)?;
        let mut launcher = Vec::new();
        if plan.traces {
            launcher.extend(strace(&home.join("trace"), &library, &home.join("clock")));
        } else {
            let preload = format!("LD_PRELOAD={}", library.display());
            let file = format!("TURNED_CLOCK={}", home.join("clock").display());
            launcher.extend(["env".to_owned(), preload, file]);
        }
        let tracer = plan
            .traces
            .then(|| Tracer::new(&home.join("trace"), &state));
        let greygate = Greygate::launch(&launcher, mx, &home, &[&base])?;
        Ok(Self {
            greygate,
            tracer,
            _pins: pins,
            _disk: disk,
            strangers,
            home,
            base,
            clock,
            directory: Some(directory),
        })
    }

    /// The daemon's own copy of the binary, and its control socket.
    pub(crate) fn door(&self) -> (PathBuf, PathBuf) {
        (self.home.join("greygate"), self.home.join("control.sock"))
    }

    /// The store's directory.
    pub(crate) fn state(&self) -> PathBuf {
        self.home.join("disk/state")
    }

    /// The daemon's wall clock is this far ahead of ours from now on.
    pub(crate) fn turn_clock(&self, seconds: i64) -> Result<(), Error> {
        let turned = self.clock.write_all_at(&seconds.to_ne_bytes(), 0);
        turned.map_err(Error::io("turning the clock"))
    }

    /// Fills the disk, or makes room again.
    pub(crate) fn fill(&self, full: bool) -> Result<(), Error> {
        let filler = self.home.join("disk/filler");
        if !full {
            return fs::remove_file(filler).map_err(Error::io("making room"));
        }
        let mut file = File::create(&filler).map_err(Error::io("filling the disk"))?;
        let block = vec![0_u8; 4_096];
        while io::Write::write_all(&mut file, &block).is_ok() {}
        Ok(())
    }

    /// Another configuration, and SIGHUP.
    pub(crate) fn reload(&self, tweaks: &str) -> Result<(), Error> {
        self.greygate.reload(&[&self.base, tweaks])
    }

    /// A file that is no configuration, and SIGHUP.
    pub(crate) fn reload_broken(&self) -> Result<(), Error> {
        let file = self.home.join("greygate.toml");
        fs::write(&file, "[greylist]\ndelay = \"soon\"\n[punish\n")
            .map_err(Error::io("writing it"))?;
        let pid = self.greygate.pid().unwrap_or_default();
        let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP)
            .map_err(|errno| Error::io("sending SIGHUP")(errno.into()))
    }

    /// Ends the daemon, by SIGKILL or by SIGTERM.
    pub(crate) fn end(&mut self, gently: bool) -> Result<ExitStatus, Error> {
        let pid = self.greygate.pid().unwrap_or_default();
        let status = if gently {
            self.greygate.stop()
        } else {
            self.greygate.kill()
        }?;
        if let Some(tracer) = &mut self.tracer {
            tracer.finish(pid)?;
        }
        Ok(status)
    }

    /// Starts it again, with the configuration that the run is made with.
    pub(crate) fn resume(&mut self, mx: &Namespace) -> Result<(), Error> {
        let file = self.home.join("greygate.toml");
        if fs::read_to_string(&file).is_ok_and(|text| text.contains("[punish\n")) {
            // A broken file is what a running daemon survives; no daemon starts with one.
            drop(self.greygate.reload(&[&self.base]));
        }
        self.greygate.resume(mx)
    }

    /// After a kill: makes the store's directory what a power cut may have left.
    pub(crate) fn cut_power(&mut self, chance: &mut Chance) -> Result<cut::Remains, Error> {
        let state = self.state();
        let tracer = self.tracer.as_mut();
        let tracer = tracer.ok_or_else(|| Error::unexpected("a cut needs a trace", "none"))?;
        let real = Disk::read(&state).map_err(Error::io("reading the store's directory"))?;
        tracer.reconcile(&real, true)?;
        let left = cut::cut(&tracer.disk, chance);
        cut::rebuild(&state, &left.contents).map_err(Error::io("cutting the power"))?;
        tracer.restart(&state, left.contents.clone());
        Ok(left)
    }

    /// Compares the model of the disk with the disk, while no daemon runs.
    pub(crate) fn check_model(&mut self, killed: bool) -> Result<(), Error> {
        let real = Disk::read(&self.state()).map_err(Error::io("reading the store's directory"))?;
        match &mut self.tracer {
            Some(tracer) => tracer.reconcile(&real, killed),
            None => Ok(()),
        }
    }

    /// Hears what was traced meanwhile.
    pub(crate) fn hear(&mut self) -> Result<(), Error> {
        match &mut self.tracer {
            Some(tracer) => tracer.read().map(drop),
            None => Ok(()),
        }
    }

    /// The disk is full from now on, or has room and what waited is on it.
    pub(crate) fn has_room(&mut self, has_room: bool) -> Result<(), Error> {
        self.hear()?;
        if let Some(tracer) = &mut self.tracer {
            tracer.disk.has_room(has_room);
        }
        Ok(())
    }

    /// How soon what was written was synced.
    pub(crate) fn pace(&self) -> Option<Pace> {
        let tracer = self.tracer.as_ref()?;
        Some(tracer.pace.and(tracer.disk.pace()))
    }

    /// Leaves the logs where they are; where that is.
    pub(crate) fn keep_logs(&mut self) -> PathBuf {
        if let Some(directory) = self.directory.take() {
            let _kept = directory.keep();
        }
        self.home.clone()
    }
}

/// What strace tells, read as it is written.
#[derive(Debug)]
struct Tracer {
    file: PathBuf,
    reader: Option<BufReader<File>>,
    partial: String,
    parser: Parser,
    disk: Disk,
    pace: Pace,
    ended: Vec<u32>,
}

impl Tracer {
    fn new(file: &Path, state: &Path) -> Self {
        Self {
            file: file.to_owned(),
            reader: None,
            partial: String::new(),
            parser: Parser::default(),
            disk: Disk::of(state, Contents::new()),
            pace: Pace::default(),
            ended: Vec::new(),
        }
    }

    /// Reads what is there. What strace has written half is left for the next time.
    fn read(&mut self) -> Result<(), Error> {
        if self.reader.is_none() {
            let file = match File::open(&self.file) {
                // Between two processes there is none.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                opened => opened.map_err(Error::io("opening the trace"))?,
            };
            self.reader = Some(BufReader::with_capacity(1 << 20, file));
        }
        let Some(reader) = &mut self.reader else {
            return Ok(());
        };
        loop {
            let read = reader.read_line(&mut self.partial);
            if read.map_err(Error::io("reading the trace"))? == 0 {
                return Ok(());
            }
            let Some(line) = self.partial.strip_suffix('\n') else {
                continue;
            };
            if let Some(seen) = self.parser.line(line) {
                self.disk.hear(&seen);
                if let Seen::Ended(thread) = seen {
                    self.ended.push(thread);
                }
            }
            self.partial.clear();
        }
    }

    /// Reads to the end, which is when the process's own end has been told.
    fn finish(&mut self, pid: u32) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        while !self.ended.contains(&pid) {
            self.read()?;
            if Instant::now() > deadline {
                return Err(Error::unexpected("the trace should tell the end of", pid));
            }
            thread::sleep(Duration::from_millis(2));
        }
        self.disk.process_ended();
        self.parser = Parser::default();
        self.ended.clear();
        self.partial.clear();
        // strace begins its file anew with the next process.
        self.reader = None;
        fs::remove_file(&self.file).map_err(Error::io("removing the trace"))
    }

    fn reconcile(&mut self, real: &Contents, killed: bool) -> Result<(), Error> {
        let reconciled = self.disk.reconcile(real, killed);
        reconciled.map_err(|why| Error::unexpected("the model of the disk is wrong", why))
    }

    fn restart(&mut self, state: &Path, contents: Contents) {
        self.pace = self.pace.and(self.disk.pace());
        self.disk = Disk::of(state, contents);
    }
}

/// A file system in memory, small enough to be filled.
#[derive(Debug)]
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(directory: &Path) -> Result<Self, Error> {
        fs::create_dir_all(directory).map_err(Error::io("making a mount point"))?;
        mount(
            Some("tmpfs"),
            directory,
            Some("tmpfs"),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            Some(SIZE),
        )
        .map_err(|errno| Error::io("mounting a tmpfs")(errno.into()))?;
        Ok(Self(directory.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(errno) = umount2(&self.0, nix::mount::MntFlags::MNT_DETACH) {
            eprintln!("{} stays mounted: {errno}", self.0.display());
        }
    }
}

/// Compiles the clock and sets it to the present.
fn turned_clock(home: &Path) -> Result<(File, PathBuf), Error> {
    let (source, library) = (home.join("turned.c"), home.join("turned.so"));
    fs::write(&source, include_str!("turned.c")).map_err(Error::io("writing the clock"))?;
    process::run(
        Command::new("cc")
            .args([
                "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o",
            ])
            .args([&library, &source])
            .arg("-ldl"),
    )?;
    let mut clock = File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(home.join("clock"))
        .map_err(Error::io("making the clock's file"))?;
    io::Write::write_all(&mut clock, &0_i64.to_ne_bytes())
        .map_err(Error::io("setting the clock"))?;
    clock.rewind().map_err(Error::io("setting the clock"))?;
    Ok((clock, library))
}

/// strace beside the daemon, which stays our own child.
fn strace(trace: &Path, library: &Path, clock: &Path) -> Vec<String> {
    let mut words: Vec<String> = [
        "strace",
        "-f",
        "-D",
        "--seccomp-bpf",
        "-y",
        "-xx",
        "-ttt",
        "-T",
    ]
    .map(str::to_owned)
    .into();
    words.extend(["-s".to_owned(), STRING.to_string()]);
    words.extend(["-e".to_owned(), format!("trace={CALLS}")]);
    words.extend(["-o".to_owned(), trace.display().to_string()]);
    words.extend(["-E".to_owned(), format!("LD_PRELOAD={}", library.display())]);
    words.extend(["-E".to_owned(), format!("TURNED_CLOCK={}", clock.display())]);
    words
}

fn configuration(home: &Path, plan: Plan) -> Result<String, Error> {
    let object = requirements::xdp_object()
        .map_err(|missing| Error::unexpected("the run needs what is missing", missing))?;
    let journal = if plan.journal {
        "journal = \"second\""
    } else {
        ""
    };
    let (home, object) = (home.display(), object.display());
    Ok(format!(
        r#"
        [milter]
        connections = 13000
        connections_per_peer = 4000
        frame_timeout = "2s"
        drain = "1s"
        [greylist]
        delay = "1s"
        trust_after = 2
        trust_interval = "0s"
        [content]
        delay = "500ms"
        [punish]
        strike_action = "observe"
        extra_delay_action = "observe"
        hopping_action = "observe"
        warmup = "0s"
        [store]
        directory = "{home}/disk/state"
        snapshot_interval = "5s"
        {journal}
        [xdp]
        interfaces = ["{INTERFACE}"]
        object = "{object}"
        capacity = 4096
        [log]
        verdicts = "none"
        "#
    ))
}

/// Enough for a run's snapshots, and soon filled.
const SIZE: &str = "size=96m,mode=0755";
/// No write of the daemon's is longer.
const STRING: u32 = 4 << 20;
/// What changes a file or a name.
const CALLS: &str = "openat,write,pwrite64,lseek,ftruncate,fsync,fdatasync,rename,renameat,\
    renameat2,link,linkat,unlink,unlinkat,close";
/// How long strace may take to tell the end: the last snapshot is written before it, every byte in four.
const PATIENCE: Duration = Duration::from_secs(90);
