//! The pure engine: what an attempt deserves, given what is remembered and what time it is.
//!
//! No I/O, no clock, no async, no locks, no logging, no global. State is facts and times;
//! verdicts are derived. It uses nothing else of greygate, and everything else may use it.

mod attempt;
mod client;
mod content;
mod decide;
mod dynamic;
mod effect;
mod evidence;
mod failure;
mod fingerprint;
mod fold;
mod foreign;
mod history;
mod hopping;
mod judge;
mod ladder;
mod lists;
mod neighbours;
mod network;
mod offence;
mod pair;
mod peers;
mod persistence;
pub mod ranges;
mod reading;
mod record;
mod registered;
mod rejections;
mod reputation;
mod rhythm;
mod rules;
mod sentence;
mod shield;
mod time;
mod trust;
mod tuple;
mod verdict;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod scenarios;

pub use attempt::{Attempt, Origin, ServerMark, verified_name};
pub use client::{Accused, ClientRecord, Protection, Strike, protection};
pub use content::{ContentRecord, ContentStanding, reads};
pub use decide::{Circumstances, Decision, decide, denial, exempt, is_spared, spares_the_wait};
pub use effect::Effect;
pub use evidence::{
    Evidence, EvidenceRules, Identity, Question, Sign, Spf, Tell, Wanted, Who, Witness, excused,
    identity, sign_of_client, sign_of_helo, wanted,
};
pub use failure::{Bearing, Failure, counts_rejections};
pub use fingerprint::{Fingerprint, MessageHasher};
pub use fold::{domain_of, fold as fold_sender};
pub use foreign::{Foreign, GivenTrust, NoCounterpart, trust_heard};
pub use history::History;
pub use hopping::{Finding, HoppingHelo, Sighting, Sightings, Suspect};
pub use judge::{Grounds, Judge, Judgement};
pub use ladder::{Struck, a_day_at_most, excuse, strike, turns_away};
pub(crate) use lists::network as network_of;
pub use lists::{
    AddressPattern, DomainPattern, Entry, InvalidEntry, List, ListOrder, Listed, Lists, LiveList,
    Order, RecipientPolicy, Recipients, Source, Word,
};
pub use neighbours::{Neighbour, Neighbours};
pub use network::ClientNetwork;
pub use offence::{Offence, Outcome};
pub use pair::PairRecord;
pub use peers::{Peers, SharedKey, Told};
pub use persistence::{Persistence, lengthened};
pub use reading::{Readings, decide_content};
pub use record::{Record, Standing};
pub use rejections::Rejections;
pub use reputation::{RecipientMark, Reputation, Repute, Weights, refusal};
pub use rhythm::note_content;
pub use rules::{
    Action, ContentRules, ContentTrust, Mode, Policy, Punish, Refusing, ReputationRules,
};
pub use sentence::{
    Sentence, SentenceLevel, SentenceReason, SentencedClient, UnknownLevel, UnsentenceableNetwork,
};
pub use time::{Second, Timestamp};
pub use trust::{TrustRecord, passes_wanted};
pub use tuple::{
    ClientKey, DomainMark, FailureKey, HeloKey, HopKey, HostMark, NetworkKey, NetworkMark, PairKey,
    PairTag, Seed, TrustKey, TupleKey,
};
pub use verdict::{DeferReason, PassReason, ReadReason, RefuseReason, Verdict};
