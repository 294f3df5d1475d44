//! The milter: greygate's ear at the MTA.
//!
//! From the wire inward: `frame` (where a message begins and ends), `command` and `macros` (what
//! it says), `negotiate` (what both sides agreed on), `session` (what follows from it), `funnel` (what
//! became of each message), `latency` (how long verdicts take), `ledger`, `reply`, `refusal` and `passed` (what is said back). These do no
//! I/O. Around them: `connection` (bytes and deadlines), `worker` (accepting and draining), `seats`
//! (which connections are open), `admission` (who may come in), `listener` (sockets) and `server`, which plugs them together.

mod admission;
mod command;
mod complaint;
mod connection;
mod context;
mod endpoint;
mod envelope;
mod frame;
mod funnel;
mod handed;
mod latency;
mod ledger;
mod listener;
mod log;
mod macros;
mod metrics;
mod negotiate;
mod passed;
mod pulse;
mod refusal;
mod reply;
mod seats;
mod server;
mod servers;
mod session;
mod settings;
mod worker;

pub use command::{Command, CommandError, Connect, Path};
pub use connection::{Connection, End, Limits, Service, Wait};
pub use context::Context;
pub use endpoint::{Endpoint, EndpointError};
pub use frame::{Frame, FrameError};
pub use funnel::{Fate, Funnel, Tally};
pub use handed::Handed;
pub use latency::{Latency, LatencyTally, Turn};
pub use ledger::LedgerError;
pub use listener::ListenError;
pub use macros::Macros;
pub use metrics::{Connections, Endings, Metrics};
pub use negotiate::{MacroStage, Needs, NegotiationError, Offer, Terms, action, step};
pub use pulse::Pulse;
pub use refusal::RefusalText;
pub use reply::{HeaderName, HeaderNameError, ReplyText, ReplyTextError, Status};
pub use server::{BoundServer, Server};
pub use session::{Next, Session, SessionError};
pub use settings::{HeaderOn, Settings, SettingsError};
