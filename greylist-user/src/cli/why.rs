//! The answer to `greygate why`, made readable: what is known first, what follows from it last.

use super::answer::seconds;
use super::moment::{Now, date};
use super::paper::{Paper, number};
use crate::admin::{KernelFacts, ListFact, NetworkFacts, ReputationFacts, SentenceFact, Why};

mod mail;

/// Writes the standing of a client for a person.
pub(super) fn why(why: &Why, paper: &mut Paper) {
    let now = Now(why.now);
    let client = paper.bold(&why.client);
    paper.line(format_args!("{client} at {}", date(why.now)));
    exempt(why, paper);
    lists(why, now, paper);
    strikes(why, now, paper);
    neighbours(why, now, paper);
    sentences(why, now, paper);
    kernel(&why.kernel, now, paper);
    if let Some(helo) = &why.helo {
        paper.row(
            "HELO",
            format_args!(
                "remembered for relay hopping: caught {}, last {}; forgotten {}",
                times(helo.times),
                now.tell(helo.latest),
                now.tell(helo.until)
            ),
        );
    }
    let either = why.networks.len() > 1;
    for network in &why.networks {
        paper.line("");
        describe(why, network, either, now, paper);
    }
}

/// What spares the client, whatever it does.
fn exempt(why: &Why, paper: &mut Paper) {
    match why.exempt.as_deref() {
        Some("allowed") => paper.row("exempt", "[lists] allow names it: never greylisted"),
        Some("local") => paper.row(
            "exempt",
            "it is this host's or this site's own: never greylisted",
        ),
        Some(other) => paper.row("exempt", other),
        None => {}
    }
    if why.shielded {
        paper.row(
            "shielded",
            "allow-listed, local or private: never sentenced for an offence",
        );
    }
    match (why.authenticated, why.last_auth) {
        (true, Some(at)) => paper.row(
            "AUTH",
            format_args!("{}: never sentenced", Now(why.now).tell(at)),
        ),
        (true, None) => paper.row("AUTH", "of a neighbour lately: never sentenced"),
        (false, Some(at)) => paper.row(
            "AUTH",
            format_args!("{}: too long ago to shield", Now(why.now).tell(at)),
        ),
        (false, None) => {}
    }
}

/// The entries that name it, and where each stands; the policy of the recipient that was asked about.
fn lists(why: &Why, now: Now, paper: &mut Paper) {
    for fact in &why.lists {
        let ListFact {
            list,
            entry,
            source,
            at,
            until,
            note,
        } = fact;
        paper.row("listed", format_args!("[lists] {list}: {entry}, {source}"));
        if let Some(at) = at {
            let until = until.map_or_else(String::new, |it| format!(", until {}", now.tell(it)));
            paper.row("", format_args!("{}{until}", now.tell(*at)));
        }
        if !note.is_empty() {
            paper.row("", note);
        }
    }
    if let Some(own) = &why.recipient_policy {
        let delay = seconds(own.delay);
        let says = match own.greylist.as_str() {
            "off" => "not greylisted".to_owned(),
            _ => format!("greylisted by {}, after {delay}", own.mode),
        };
        paper.row(
            "recipient",
            format_args!("{} ({}): {says}", own.pattern, own.source),
        );
    }
}

fn strikes(why: &Why, now: Now, paper: &mut Paper) {
    match (why.strikes, why.strikes_until) {
        (0, _) => paper.row("strikes", "none that counts"),
        (count, Some(until)) => paper.row(
            "strikes",
            format_args!(
                "{}, forgotten {} unless more come",
                number(count),
                now.tell(until)
            ),
        ),
        (count, None) => paper.row("strikes", number(count)),
    }
    for strike in &why.latest_strikes {
        let what = offence(&strike.offence);
        paper.row("", format_args!("{}: {what}", now.tell(strike.at)));
    }
}

fn neighbours(why: &Why, now: Now, paper: &mut Paper) {
    let Some(latest) = why.neighbours.iter().max() else {
        return;
    };
    let needed = match why.neighbours_needed {
        0 => "never a sentence of the network".to_owned(),
        needed => format!("at {needed} the network is sentenced"),
    };
    paper.row(
        "neighbours",
        format_args!(
            "{} struck in {}, the latest {}; {needed}",
            plural(why.neighbours.len() as u64, "host"),
            why.around,
            now.tell(*latest)
        ),
    );
}

fn sentences(why: &Why, now: Now, paper: &mut Paper) {
    if why.sentences.is_empty() {
        paper.row("sentence", "none");
    }
    for sentence in &why.sentences {
        let SentenceFact {
            client,
            level,
            reason,
            since,
            until,
            lengthened,
            ..
        } = sentence;
        let level = paper.bad(level);
        paper.row(
            "sentence",
            format_args!("of {client}: {level}, {}", grounds(reason)),
        );
        paper.row("", format_args!("since {}", now.tell(*since)));
        let longer = if *lengthened {
            ", lengthened since it went on knocking"
        } else {
            ""
        };
        paper.row("", format_args!("until {}{longer}", now.tell(*until)));
        if let Some(but) = softened(why, sentence) {
            paper.row("", but);
        }
    }
}

/// What is not carried out of a sentence, and why.
fn softened(why: &Why, sentence: &SentenceFact) -> Option<String> {
    let Some(carried_out) = &sentence.carried_out else {
        return Some("but void: its client is allow-listed, local or private now".to_owned());
    };
    if *carried_out == sentence.level {
        return None;
    }
    let because = if why.actions.sentence == "observe" {
        "[punish] action only observes".to_owned()
    } else {
        let left = seconds(why.history.warmup_left);
        format!("[punish] warmup lasts another {left}")
    };
    Some(format!("but at level {carried_out} only: {because}"))
}

fn kernel(kernel: &KernelFacts, now: Now, paper: &mut Paper) {
    if let Some(why) = &kernel.unreadable {
        paper.row("kernel", format_args!("cannot be read: {why}"));
    }
    for entry in &kernel.entries {
        paper.row(
            "kernel",
            format_args!(
                "{}: {}, until {}, {} new connections dropped",
                entry.client,
                entry.level,
                now.tell(entry.until),
                number(entry.drops)
            ),
        );
    }
    if kernel.entries.is_empty() && kernel.unreadable.is_none() {
        paper.row("kernel", "no entry: nothing of it is dropped");
    }
    if let Some(passes) = &kernel.passes {
        paper.row("", format_args!("but it always passes: {passes}"));
    }
    if let Some(idle) = &kernel.idle {
        paper.row("", format_args!("but the kernel drops nothing: {idle}"));
    }
}

fn describe(why: &Why, network: &NetworkFacts, either: bool, now: Now, paper: &mut Paper) {
    let class = match (either, network.named) {
        (false, _) => "",
        (true, true) => " if Postfix verified a name of it such as mail.example.org",
        (true, false) => " if it has no reverse name, or one that looks dynamic",
    };
    paper.row("network", format_args!("{}{class}", network.network));
    reputation(network, now, paper);
    let protected = match network.protection.as_str() {
        "all" => "from every sentence",
        "block" => "from block, not from rate",
        _ => "from nothing",
    };
    paper.row("protected", protected);
    evidence(network, paper);
    if let Some(mail) = &network.mail {
        mail::mail(why, mail, now, paper);
    }
}

/// What speaks for or against the client beside its past, and who would be asked for more.
fn evidence(network: &NetworkFacts, paper: &mut Paper) {
    if let Some(sign) = network.sign.as_deref() {
        paper.row(
            "suspicious",
            match sign {
                "no-name" => "it has no verified reverse name",
                "access-line" => "its reverse name looks like that of an access line",
                "helo-no-name" => "its HELO argument is no name of a host",
                "helo-ours" => "it greets with a name of this host",
                other => other,
            },
        );
    }
    if !network.asks.is_empty() {
        paper.row(
            "asks",
            format_args!(
                "{}, before mail is deferred; nobody was asked for this answer",
                network.asks.join(", ")
            ),
        );
    }
}

fn reputation(network: &NetworkFacts, now: Now, paper: &mut Paper) {
    let Some(counts) = &network.reputation else {
        paper.row("reputation", "none: nothing is known of it");
        return;
    };
    let ReputationFacts {
        good,
        bad,
        ham,
        spam,
        updated,
        good_days,
        recipients,
        ..
    } = counts;
    paper.row(
        "reputation",
        format_args!(
            "{}: {} good and {} bad; good on {}, to {}; last {}",
            network.repute,
            number(good + ham),
            number(bad + spam),
            plural(*good_days, "day"),
            plural(*recipients, "recipient"),
            now.tell(*updated)
        ),
    );
    if ham + spam > 0 {
        let (ham, spam) = (number(*ham), number(*spam));
        paper.row(
            "",
            format_args!("of these {ham} reported as ham, {spam} as spam"),
        );
    }
}

/// An offence in plain words.
fn offence(word: &str) -> &str {
    match word {
        "rapid-retries" => "one message tried again and again, seconds apart",
        "relay-hopping" => "one HELO argument and recipient from many unrelated networks at once",
        "rejected-retries" => "one message tried on after it was refused for good",
        "rejected-recipients" => "very many recipients that do not exist",
        other => other,
    }
}

/// What a sentence was given for, in plain words.
fn grounds(reason: &str) -> String {
    match reason {
        "operator" => "ordered by an operator".to_owned(),
        "neighbours" => "for several struck hosts in it".to_owned(),
        word => format!("for {}", offence(word)),
    }
}

fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        count => format!("{} times", number(count)),
    }
}

fn plural(count: u64, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        count => format!("{} {noun}s", number(count)),
    }
}

#[cfg(test)]
mod tests;
