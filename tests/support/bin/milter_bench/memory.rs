//! What a connection that says nothing holds of a milter's memory.

use std::{io, net::Ipv4Addr, time::Duration};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use support::{
    Error,
    bench::server::Server,
    interrupt,
    mta::{Mta, POSTFIX},
};

/// Bytes of the server's for one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) after_options: f64,
    pub(crate) after_rcpt: f64,
}

/// Holds so many connections, and says what each takes.
pub(crate) fn hold(server: &Server, connections: u32) -> Result<Held, Error> {
    // One for both: memory that the first connections leave to be used again is still theirs.
    let mut base = None;
    let mut opened = |part: fn(&mut Mta) -> io::Result<()>| -> Result<f64, Error> {
        let failed = || format!("{connections} idle connections at {}", server.name);
        let open = |count| {
            server
                .namespace
                .run(|| {
                    (0..count)
                        .map(|_| open(server, part))
                        .collect::<io::Result<Vec<_>>>()
                })
                .map_err(Error::io(failed()))
        };
        // What the first sessions set up once is not the price of one.
        drop(open(64)?);
        interrupt::pause(SETTLED)?;
        let before = *base.get_or_insert(server.resident()?);
        let held = open(connections)?;
        interrupt::pause(SETTLED)?;
        let after = server.resident()?;
        drop(held);
        interrupt::pause(SETTLED)?;
        #[expect(clippy::cast_precision_loss, reason = "far less than 2^52")]
        let grown = after.saturating_sub(before) as f64;
        Ok(grown / f64::from(connections))
    };
    Ok(Held {
        after_options: opened(|_| Ok(()))?,
        after_rcpt: opened(|mta| {
            let client = Ipv4Addr::new(198, 18, 0, 1);
            mta.client(&format!("[{client}]"), client.into())?;
            mta.helo("helo.client.example")?;
            mta.mail("someone@sender.example")?;
            mta.rcpt("someone@recipient.example").map(drop)
        })?,
    })
}

fn open(server: &Server, part: fn(&mut Mta) -> io::Result<()>) -> io::Result<Mta> {
    let endpoint = server
        .endpoint()
        .ok_or_else(|| io::Error::other("only a milter is held"))?;
    let (mut mta, _) = Mta::negotiate(&endpoint, POSTFIX)?;
    part(&mut mta)?;
    Ok(mta)
}

/// Lets this process, and what it starts, have a descriptor for each connection.
pub(crate) fn allow_descriptors() -> Result<(), Error> {
    let raise = || {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        // What the hard limit is above that, nobody needs: it may be above what the system allows.
        let most = hard.min(DESCRIPTORS);
        setrlimit(Resource::RLIMIT_NOFILE, most, most)
    };
    raise().map_err(|errno: nix::Error| Error::io("allowing more descriptors")(errno.into()))
}

/// For idle connections, and what a process has open besides.
const DESCRIPTORS: u64 = 40_000;
/// Until a server has done what is to be done about connections.
const SETTLED: Duration = Duration::from_millis(500);
