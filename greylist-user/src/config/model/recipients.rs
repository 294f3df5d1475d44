//! The keys of `[[recipients]]`.

use std::time::Duration;

use super::lists::Each;
use super::{Table, Visitor};
use crate::policy::{AddressPattern, DomainPattern, Mode, Policy};

/// Whose mail is greylisted, unless a table says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::config) enum Greylisted {
    /// Everybody's.
    #[default]
    All,
    /// That of recipients whom a table opts in.
    Listed,
}

/// Whether the mail of some recipients is greylisted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Switch {
    /// It is.
    On,
    /// It is not.
    Off,
}

/// The rules of some recipients, as they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct RecipientRules {
    pub(in crate::config) recipients: Each<AddressPattern>,
    pub(in crate::config) greylist: Switch,
    pub(in crate::config) mode: Mode,
    pub(in crate::config) delay: Duration,
    /// The lines of `match` and `delay`.
    pub(in crate::config) lines: [usize; 2],
}

impl Table for RecipientRules {
    fn example(&self) -> Self {
        let lists = DomainPattern::below("lists.example.org");
        let support = AddressPattern::Whole("support@example.org".to_owned());
        let recipients = [AddressPattern::Domain(lists), support];
        Self {
            recipients: Each {
                items: recipients.into_iter().map(|it| (0, it)).collect(),
                faults: Vec::new(),
            },
            greylist: Switch::Off,
            ..self.clone()
        }
    }

    fn visit(&mut self, v: &mut impl Visitor) {
        v.key(
            "match",
            &mut self.recipients,
            "Whom the table is for: an address, a domain (example.org), or a domain with all below it \
             (.example.org). The address counts before its domain, that before what it lies below.",
        );
        v.key(
            "greylist",
            &mut self.greylist,
            "\"off\" greylists none of their mail; \"on\" does, and opts them in where [greylist] \
             recipients is \"listed\". Who is refused or sentenced is, either way.",
        );
        v.key(
            "mode",
            &mut self.mode,
            "As [greylist] mode, which holds where it is not set.",
        );
        v.bounded(
            "delay",
            &mut self.delay,
            Duration::from_millis(1)..=Duration::from_hours(12),
            "As [greylist] delay, which holds where it is not set.",
        );
    }

    fn note_lines(&mut self, line_of: &dyn Fn(&'static str) -> usize) {
        self.lines = ["match", "delay"].map(line_of);
    }
}

pub(super) fn visit(policy: &Policy, rules: &mut Vec<RecipientRules>, v: &mut impl Visitor) {
    let template = RecipientRules {
        recipients: Each::default(),
        greylist: Switch::On,
        mode: policy.mode,
        delay: policy.delay,
        lines: [0; 2],
    };
    v.repeated(
        "recipients",
        "Rules of their own for some recipients; such a table may stand any number of times.",
        &template,
        rules,
    );
}
