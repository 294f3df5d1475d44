//! What sessions ask: whether others know a mail that is new here.

use std::rc::Rc;

use redis::{Cmd, RedisResult, Value, cmd};
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout_at};

use crate::policy::Told;
use crate::store::{Absorbed, SharedKey};

use super::circuit::{Circuit, Turned};
use super::clerk::Clerk;
use super::engine::{self, Engine};
use super::layout::{self, Subject};

/// A question that waits.
pub(super) struct Asked {
    pub(super) keys: Vec<SharedKey>,
    pub(super) until: Instant,
    pub(super) tell: Told,
}

impl Clerk {
    /// Answers a session, in a task of its own; at once where nobody is to be asked.
    pub(super) fn hear(clerk: &Rc<Self>, asked: Asked) {
        let engine = clerk.engine.borrow().clone();
        let Some(engine) = engine.filter(|_| clerk.circuit.get().is_closed()) else {
            clerk.metrics.skipped.inc();
            return (asked.tell)();
        };
        if clerk.waiting.get() >= MOST_WAITING {
            clerk.metrics.overflow.inc();
            return (asked.tell)();
        }
        clerk.waiting.set(clerk.waiting.get() + 1);
        let clerk = Rc::clone(clerk);
        spawn_local(async move {
            clerk.answer(&engine, &asked.keys, asked.until).await;
            clerk.waiting.set(clerk.waiting.get() - 1);
            (asked.tell)();
        });
    }

    /// Takes in what the engine knows of these records.
    async fn answer(&self, engine: &Engine, keys: &[SharedKey], until: Instant) {
        self.metrics.asked.inc();
        let commands = keys.iter().map(|key| self.asks_for(*key)).collect();
        let Ok(answers) = timeout_at(until, engine.quick.say_all(commands)).await else {
            self.metrics.late.inc();
            self.turn(Circuit::note_miss);
            return;
        };
        let has_failed = |answer: &RedisResult<Value>| {
            answer
                .as_ref()
                .is_err_and(|error| !engine::is_foreign(error))
        };
        if answers.iter().any(has_failed) {
            self.metrics.failed.inc();
            self.turn(Circuit::note_miss);
        } else {
            self.turn(|circuit| {
                circuit.note_answer();
                Turned::Not
            });
        }
        let mut has_found = false;
        for (key, answer) in keys.iter().zip(answers) {
            if let Ok(Value::BulkString(value)) = answer {
                has_found |= self.absorb(&Subject::Record(*key), &value);
            }
        }
        if has_found {
            self.metrics.found.inc();
        }
    }

    fn asks_for(&self, key: SharedKey) -> Cmd {
        let name = layout::key(key);
        if key.is_told() {
            let mut command = cmd("HGET");
            command.arg(&self.names.told).arg(name);
            command
        } else {
            let mut command = cmd("GET");
            command.arg(self.names.record(&name));
            command
        }
    }

    /// Takes in what is known elsewhere; says whether it could be read.
    pub(super) fn absorb(&self, of: &Subject, value: &[u8]) -> bool {
        let has_room = match of {
            Subject::Entry(list, entry) => {
                layout::read_order(*list, entry.clone(), value).map(|order| self.lists.hear(order))
            }
            Subject::Record(key) => layout::read(*key, value).map(|shared| {
                self.heard.borrow_mut().note(of.clone(), value);
                self.store.absorb(shared, self.clock.now()) != Absorbed::NoRoom
            }),
        };
        let Ok(has_room) = has_room else {
            self.complain_of(of);
            return false;
        };
        if !has_room {
            self.metrics.no_room.inc();
        }
        true
    }

    /// Says once that something else stands under the prefix.
    pub(super) fn complain_of(&self, of: &Subject) {
        self.metrics.foreign.inc();
        self.board.change(|it| it.foreign += 1);
        if !self.has_told_of_foreign.replace(true) {
            let name = of.name().escape_ascii().to_string();
            tracing::warn!(prefix = self.settings.prefix, key = name, "cluster-foreign");
        }
    }
}

/// Sessions that may wait at once: as many as the milter takes connections by default.
const MOST_WAITING: usize = 10_000;
