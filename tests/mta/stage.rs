//! A real Postfix in front of the milter alone, with a judge whose word is known beforehand: for
//! what crosses the wire, whatever the engine makes of it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use greygate::clock::{Clock, SystemClock};
use greygate::milter::{Endpoint, Metrics, Server, Settings};
use greygate::policy::{
    Attempt, ClientNetwork, DeferReason, Fingerprint, Judge, Judgement, MessageHasher, PassReason,
    Policy, RefuseReason, Seed, Timestamp, Verdict,
};
use support::error::Error;
use support::netns::{self, End, Namespace};
use support::postfix::{Postfix, World};
use support::smtp::Client;

/// The mailboxes, each with the word on mail for it: passed before; passes now, after waiting;
/// pending, and to be read; pending.
pub(crate) const KNOWN: &str = "known";
pub(crate) const WAITED: &str = "waited";
pub(crate) const READ: &str = "read";
pub(crate) const NEW: &str = "new";

/// A running Postfix with the milter in this process. Dropping it takes everything away again.
pub(crate) struct Stage {
    // In the order of their end.
    postfix: Postfix,
    _server: Server,
    client: Namespace,
    _mx: Namespace,
    _directory: tempfile::TempDir,
    pub(crate) script: Arc<Script>,
    pub(crate) metrics: Arc<Metrics>,
    _turn: MutexGuard<'static, ()>,
}

impl Stage {
    /// Starts it when it is its turn.
    pub(crate) fn start() -> Result<Self, Error> {
        let turn = crate::wait_for_turn();
        let directory = tempfile::Builder::new()
            .prefix("greygate-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o711))
            .tempdir()
            .map_err(Error::io("making a temporary directory"))?;
        let mx = Namespace::create("mx")?;
        let client = Namespace::create("client")?;
        netns::join(
            End {
                namespace: &mx,
                interface: "mx0",
                addresses: &["192.0.2.1/24", "192.0.2.2/24"],
            },
            End {
                namespace: &client,
                interface: "eth0",
                addresses: &["192.0.2.10/24"],
            },
        )?;
        let script = Arc::<Script>::default();
        let metrics = Arc::<Metrics>::default();
        let server = mx.run(|| serve(Arc::clone(&script), Arc::clone(&metrics)));
        let endpoint = &server.endpoints()[0];
        let world = World {
            mailboxes: [KNOWN, WAITED, READ, NEW].map(str::to_owned).into(),
            ..World::default()
        };
        // Should the milter fail, mail flows, and the test sees that.
        let milters = format!("{{ {endpoint}, default_action=accept }}");
        let home = directory.path().join("postfix");
        let postfix = Postfix::start(&mx, &home, &world, &milters)?;
        Ok(Self {
            postfix,
            _server: server,
            client,
            _mx: mx,
            _directory: directory,
            script,
            metrics,
            _turn: turn,
        })
    }

    pub(crate) fn postfix(&self) -> &Postfix {
        &self.postfix
    }

    /// A client of the first of the host's two addresses.
    pub(crate) fn client(&self) -> Client<'_> {
        self.client_of([192, 0, 2, 1])
    }

    /// A client of one of the host's addresses.
    pub(crate) fn client_of(&self, server: [u8; 4]) -> Client<'_> {
        Client {
            namespace: &self.client,
            source: ([192, 0, 2, 10], 0).into(),
            server: (server, 25).into(),
        }
    }
}

fn serve(script: Arc<Script>, metrics: Arc<Metrics>) -> Server {
    let settings = Settings {
        listen: vec![Endpoint::Inet(SocketAddr::from(([127, 0, 0, 1], 0)))],
        workers: 1,
        host: "mx.lab.example".to_owned(),
        ..Settings::default()
    };
    let policy = Arc::new(ArcSwap::from_pointee(Policy::default()));
    Server::bind(&settings)
        .and_then(|bound| bound.serve(policy, script, Arc::new(SystemClock), metrics))
        .expect("the namespace is empty")
}

/// Says what the mailbox stands for, and remembers what it was asked and told.
#[derive(Default)]
pub(crate) struct Script {
    /// Sessions that began before are turned away.
    sentenced_at: AtomicU64,
    attempts: Mutex<Vec<Seen>>,
    contents: Mutex<Vec<Option<Fingerprint>>>,
    rejected: Mutex<Vec<String>>,
}

/// What a test may want to know of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) recipient: String,
    /// The bit of the address that was called.
    pub(crate) server: u16,
}

impl Script {
    /// From now on, whoever is connected has been sentenced.
    pub(crate) fn sentence(&self) {
        // A session that begins in this very millisecond is not older than the sentence: neither one
        // that has just begun, nor the next.
        std::thread::sleep(Duration::from_millis(2));
        let now = SystemClock.now().as_millis();
        self.sentenced_at.store(now, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(2));
    }

    pub(crate) fn attempts(&self) -> Vec<Seen> {
        lock(&self.attempts).clone()
    }

    /// The fingerprints of the messages that were read, in their order.
    pub(crate) fn contents(&self) -> Vec<Option<Fingerprint>> {
        lock(&self.contents).clone()
    }

    /// The recipients that Postfix refused for good.
    pub(crate) fn rejected(&self) -> Vec<String> {
        lock(&self.rejected).clone()
    }
}

impl Judge for Script {
    fn judge(&self, attempt: &Attempt<'_>, now: Timestamp) -> Judgement {
        let recipient = text(attempt.recipient);
        let mailbox = recipient.split('@').next().unwrap_or_default();
        let waited = Duration::from_secs(187);
        let verdict = if self.turns_away(attempt, now) {
            Verdict::Refuse(RefuseReason::Sentenced)
        } else {
            match mailbox {
                KNOWN => Verdict::Pass(PassReason::Passed),
                WAITED => Verdict::Pass(PassReason::Waited { waited }),
                _ => Verdict::Defer(DeferReason::New),
            }
        };
        let wants_content = mailbox == READ;
        let server = attempt.server.bit();
        lock(&self.attempts).push(Seen { recipient, server });
        Judgement {
            wants_content,
            ..verdict.into()
        }
    }

    fn turns_away(&self, attempt: &Attempt<'_>, _: Timestamp) -> bool {
        attempt.connected.as_millis() < self.sentenced_at.load(Ordering::SeqCst)
    }

    fn message_hasher(&self) -> MessageHasher {
        Seed::from_bytes([7; Seed::LENGTH]).message_hasher(0)
    }

    fn judge_content(&self, _: &Attempt<'_>, _: &MessageHasher, _: Timestamp) -> Judgement {
        Verdict::Defer(DeferReason::ContentNew).into()
    }

    fn note_held(&self, _: &Attempt<'_>, _: &MessageHasher, _: Timestamp) {}

    fn note_content_pass(&self, _: &Attempt<'_>, _: &MessageHasher, _: Timestamp) {}

    fn note_content(&self, attempt: &Attempt<'_>, message: &MessageHasher, _: Timestamp) {
        let network = ClientNetwork::of(&Policy::default(), attempt);
        lock(&self.contents).push(message.fingerprint(network, attempt));
    }

    fn note_rejected(&self, attempt: &Attempt<'_>, _: Timestamp) {
        let size = attempt.announced_size;
        lock(&self.rejected).push(format!("{} {size}", text(attempt.recipient)));
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
