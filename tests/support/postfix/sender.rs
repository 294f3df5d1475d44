//! A Postfix that sends: what it is given it queues, and it tries again when it is told to.
//!
//! Which recipients are tried again, and what a reply or a broken session means for them, is its own
//! word. Its retries come when a test asks for them, as its timers are made for hours.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::error::Error;
use crate::netns::Namespace;
use crate::smtp::Message;
use crate::{interrupt, process};

use super::instance::{Instance, PATIENCE};

/// A running Postfix that sends all mail to one server. Dropping it stops it.
#[derive(Debug)]
pub struct Sender {
    instance: Instance,
}

/// What became of each recipient in one try of the queue.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    /// Those it was rid of.
    pub sent: Vec<String>,
    /// Those it keeps, each with the reason it noted.
    pub deferred: Vec<(String, String)>,
}

impl Sender {
    /// Starts one inside `namespace`, with everything it writes under `directory`, which must not
    /// exist yet and whose parents everybody may enter. It sends to `server` and takes mail from
    /// nobody but [`Sender::submit`].
    pub fn start(
        namespace: &Namespace,
        directory: &Path,
        server: SocketAddr,
    ) -> Result<Self, Error> {
        let (ip, port) = (server.ip(), server.port());
        let settings = format!(
            "myhostname = lists.sender.example
inet_interfaces = loopback-only
relayhost = [{ip}]:{port}
message_size_limit = 30000000
"
        );
        let instance = Instance::prepare(directory, &settings, "")?;
        instance.start(namespace, false)?;
        Ok(Self { instance })
    }

    /// Queues `message` for `to` and waits until it has been tried once.
    pub fn submit(&self, message: &Message, to: &[String]) -> Result<Tried, Error> {
        let before = self.outcomes().len();
        let path = self.instance.path("message");
        self.instance.write("message", &message.text())?;
        let file = File::open(&path).map_err(Error::io(format!("opening {}", path.display())))?;
        let mut sendmail = Command::new("sendmail");
        sendmail.arg("-C").arg(self.instance.path("etc"));
        sendmail.args(["-i", "-f", &message.reverse_path, "--"]);
        process::run_on(sendmail.args(to), file)?;
        self.tried(before, to.len())
    }

    /// Tries everything in the queue again, as `postqueue -f` does, and waits until it has been.
    pub fn retry(&self) -> Result<Tried, Error> {
        let before = self.outcomes().len();
        let left = self.queued()?.len();
        process::run(self.instance.program("postqueue").arg("-f"))?;
        self.tried(before, left)
    }

    /// The recipients in its queue.
    pub fn queued(&self) -> Result<Vec<String>, Error> {
        let mut recipients = Vec::new();
        for entry in self.queue()? {
            for recipient in entry["recipients"].as_array().into_iter().flatten() {
                let address = recipient["address"].as_str();
                let address = address.ok_or_else(|| Error::unexpected("no address", &entry))?;
                recipients.push(address.to_owned());
            }
        }
        Ok(recipients)
    }

    /// Everything it logged so far.
    pub fn log(&self) -> String {
        self.instance.log()
    }

    /// The outcomes from `before` on, once there are `count` of them and nothing is under way.
    fn tried(&self, before: usize, count: usize) -> Result<Tried, Error> {
        let outcomes = interrupt::wait_for("a try of the queue", PATIENCE, || {
            let outcomes = self.outcomes().split_off(before);
            let rests = |entry: &Value| entry["queue_name"] == "deferred";
            let is_over = outcomes.len() >= count && self.queue()?.iter().all(rests);
            Ok(is_over.then_some(outcomes))
        })
        .map_err(|error| self.instance.explain(error))?;
        let mut tried = Tried::default();
        for outcome in outcomes {
            let Outcome {
                recipient,
                status,
                said,
            } = outcome;
            match status.as_str() {
                "sent" => tried.sent.push(recipient),
                "deferred" => tried.deferred.push((recipient, said)),
                _ => return Err(Error::unexpected(format!("{recipient} is {status}"), said)),
            }
        }
        Ok(tried)
    }

    fn queue(&self) -> Result<Vec<Value>, Error> {
        let listed = process::run(self.instance.program("postqueue").arg("-j"))?;
        let entries = listed.lines().map(serde_json::from_str);
        let entries: Result<_, serde_json::Error> = entries.collect();
        entries.map_err(|error| Error::unexpected(format!("{error} in the queue"), listed))
    }

    /// What it logged of each recipient it tried, in the order of its log.
    fn outcomes(&self) -> Vec<Outcome> {
        self.log().lines().filter_map(Outcome::of).collect()
    }
}

impl Tried {
    /// How many of the recipients it keeps were told `word`.
    pub fn told(&self, word: &str) -> usize {
        let told = self.deferred.iter().filter(|(_, said)| said.contains(word));
        told.count()
    }
}

/// A line of the log that says what became of a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    recipient: String,
    status: String,
    said: String,
}

impl Outcome {
    fn of(line: &str) -> Option<Self> {
        let (_, rest) = line.split_once(": to=<")?;
        let (recipient, rest) = rest.split_once('>')?;
        let (_, rest) = rest.split_once(", status=")?;
        let (status, said) = rest.split_once(' ')?;
        Some(Self {
            recipient: recipient.to_owned(),
            status: status.to_owned(),
            said: said.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_became_of_a_recipient() {
        let line = "Nov 22 04:00:00 host postfix/smtp[7]: 4D1: to=<a@lab.example>, \
                    relay=192.0.2.1[192.0.2.1]:25, delay=0.1, delays=0/0/0/0, dsn=4.7.1, \
                    status=deferred (host 192.0.2.1 said: 451 4.7.1 Later)";
        let outcome = Outcome::of(line).expect("it is one");
        assert_eq!(outcome.recipient, "a@lab.example");
        assert_eq!(outcome.status, "deferred");
        assert_eq!(outcome.said, "(host 192.0.2.1 said: 451 4.7.1 Later)");
        assert_eq!(Outcome::of("postfix/qmgr[7]: 4D1: removed"), None);
    }
}
