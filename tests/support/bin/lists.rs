//! The scene of the mailing lists: messages for many recipients, of whom some pass already, from
//! Postfixes that decide by themselves what a reply or a broken session means for each of them.

use support::error::Error;
use support::interrupt;
use support::postfix::{STRESSED_PORT, Sender, Tried, address};
use support::site::Site;
use support::smtp::Message;
use support::story::Scene;

use crate::scenes::AFTER_DELAY;

/// The members of each list, and how many of them know its sender already.
const MEMBERS: usize = 45;
const ACQUAINTED: usize = 20;

/// A list, and what its members' mailboxes are called.
struct List {
    from: &'static str,
    members: &'static str,
}

const NEWS: List = List {
    from: "news@list.example",
    members: "member",
};
const TIPS: List = List {
    from: "tips@list.example",
    members: "reader",
};

/// The mailboxes of all members.
pub(super) fn mailboxes() -> impl Iterator<Item = String> {
    let all = |list: List| (1..=MEMBERS).map(move |number| list.mailbox(number));
    all(NEWS).chain(all(TIPS))
}

pub(super) fn many_recipients(scene: &mut Scene, site: &Site) -> Result<(), Error> {
    let sender = site.sender("sender", site.client().server.port())?;
    scene.tries(format!(
        "a Postfix sends a welcome of two lists to {ACQUAINTED} members of each, until all have it"
    ));
    for list in [NEWS, TIPS] {
        let welcome = Message::new(list.from, &format!("welcome-of-{}s", list.members));
        let acquainted: Vec<_> = list.acquainted().collect();
        sender.submit(&welcome, &acquainted)?;
    }
    let mut rounds = 0;
    while rounds < ROUNDS && !sender.queued()?.is_empty() {
        interrupt::pause(AFTER_DELAY)?;
        sender.retry()?;
        rounds += 1;
    }
    let left = sender.queued()?.len();
    scene.saw(format!(
        "retries needed: {rounds}, {left} left; these members pass from now on"
    ));

    scene.tries(format!(
        "then one message to all {MEMBERS} members of each list, known and unknown ones by turns"
    ));
    scene.tries(format!(
        "the second from another Postfix, to port {STRESSED_PORT}: smtpd -o stress=yes hangs up after an error"
    ));
    let to_stressed = site.sender("sender-to-stressed", STRESSED_PORT)?;
    let mut deliveries = [
        Delivery::begin("normally", NEWS, sender)?,
        Delivery::begin("under stress", TIPS, to_stressed)?,
    ];
    loop {
        for delivery in &deliveries {
            delivery.tell(scene);
        }
        let over = deliveries.iter().map(Delivery::is_over);
        if over
            .collect::<Result<Vec<_>, _>>()?
            .iter()
            .all(|over| *over)
        {
            break;
        }
        interrupt::pause(AFTER_DELAY)?;
        for delivery in &mut deliveries {
            delivery.go_on()?;
        }
    }
    let mut copies = [0, 0];
    for (copies, delivery) in copies.iter_mut().zip(&deliveries) {
        *copies = delivery.copies(site)?;
    }
    let rounds = deliveries.each_ref().map(|delivery| delivery.retries);
    let hung_up = site
        .postfix()
        .log()
        .matches("too many errors after RCPT")
        .count();
    scene.saw(format!(
        "retries needed: {rounds:?}; {copies:?} copies in {MEMBERS} mailboxes each; Postfix hung up {hung_up} times"
    ));
    scene.holds(
        "each has it once, in at most two rounds after the delay, under stress too",
        rounds.iter().all(|rounds| *rounds <= ROUNDS) && copies == [MEMBERS; 2] && hung_up > 0,
        format!("{rounds:?} rounds after the first, {copies:?} copies, {hung_up} hung up"),
    )
}

/// One message to a whole list, on its way.
struct Delivery {
    how: &'static str,
    list: List,
    sender: Sender,
    message: Message,
    retries: usize,
    latest: Option<Tried>,
}

impl Delivery {
    fn begin(how: &'static str, list: List, sender: Sender) -> Result<Self, Error> {
        let message = Message::new(list.from, &format!("issue-for-{}s", list.members));
        let all: Vec<_> = (1..=MEMBERS).map(|it| list.address(it)).collect();
        let latest = Some(sender.submit(&message, &all)?);
        Ok(Self {
            how,
            list,
            sender,
            message,
            retries: 0,
            latest,
        })
    }

    fn is_over(&self) -> Result<bool, Error> {
        Ok(self.retries > ROUNDS || self.sender.queued()?.is_empty())
    }

    /// Tries once more what is left.
    fn go_on(&mut self) -> Result<(), Error> {
        self.latest = None;
        if !self.is_over()? {
            self.latest = Some(self.sender.retry()?);
            self.retries += 1;
        }
        Ok(())
    }

    fn tell(&self, scene: &Scene) {
        let Some(tried) = &self.latest else {
            return;
        };
        let (round, sent) = (self.retries + 1, tried.sent.len());
        let left = tried.deferred.len();
        let why = tried.deferred.last().map_or("", |(_, said)| said);
        scene.saw(format!(
            "{}, round {round}: {sent} sent, {left} deferred {why}",
            self.how
        ));
    }

    /// How many copies are in the mailboxes of the members, one being enough for each.
    fn copies(&self, site: &Site) -> Result<usize, Error> {
        let mut copies = 0;
        for member in (1..=MEMBERS).map(|number| self.list.mailbox(number)) {
            site.postfix()
                .wait_for_delivery(&member, &self.message.id)?;
            let delivered = site.postfix().delivered(&member)?;
            let them = delivered
                .iter()
                .filter(|text| text.contains(&self.message.id));
            copies += them.count();
        }
        Ok(copies)
    }
}

impl List {
    fn mailbox(&self, number: usize) -> String {
        format!("{}{number:02}", self.members)
    }

    fn address(&self, number: usize) -> String {
        address(&self.mailbox(number))
    }

    /// Those that know it: every other one, as Postfix sends to them in the order of their names.
    fn acquainted(&self) -> impl Iterator<Item = String> {
        (1..).step_by(2).take(ACQUAINTED).map(|it| self.address(it))
    }
}

/// The rounds after the first that a delivery may take.
const ROUNDS: usize = 2;
