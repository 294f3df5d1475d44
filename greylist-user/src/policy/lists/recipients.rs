//! Rules of their own for some recipients: which apply to one, the address before its domain, the
//! domain before what it lies below.
//!
//! Each is a whole policy, made when the configuration is read, so that whoever decides takes the one
//! that was chosen and knows nothing of choosing.

use std::sync::Arc;

use super::Source;
use super::entry::AddressPattern;
use super::names::Addresses;
use crate::policy::rules::Policy;

/// The policies of recipients that have one.
#[derive(Clone, Debug, Default)]
pub struct Recipients {
    by_address: Addresses,
    named: Vec<Named>,
    policies: Vec<RecipientPolicy>,
}

/// The rules for some recipients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientPolicy {
    /// Whom they are for.
    pub recipients: Vec<AddressPattern>,
    /// Where they stand.
    pub source: Source,
    /// All rules, those of the site and those that differ.
    pub policy: Policy,
}

/// A pattern, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    pattern: AddressPattern,
    policy: usize,
}

impl Recipients {
    /// These policies. A pattern that several have is the first one's.
    pub fn of(policies: Vec<RecipientPolicy>) -> Self {
        let mut all = Self::default();
        for (policy, it) in policies.iter().enumerate() {
            for pattern in &it.recipients {
                all.by_address.insert(pattern, all.named.len());
                let pattern = pattern.clone();
                all.named.push(Named { pattern, policy });
            }
        }
        Self { policies, ..all }
    }

    /// What applies to `recipient`, and the pattern that says so.
    pub fn find(&self, recipient: &[u8]) -> Option<(&AddressPattern, &RecipientPolicy)> {
        let named = self.named.get(self.by_address.find(recipient)?)?;
        Some((&named.pattern, self.policies.get(named.policy)?))
    }

    /// All of them.
    pub fn policies(&self) -> &[RecipientPolicy] {
        &self.policies
    }

    /// The same with each policy changed.
    #[must_use]
    pub fn map(&self, change: impl Fn(&Policy) -> Policy) -> Arc<Self> {
        let policies = self.policies.iter().map(|it| RecipientPolicy {
            policy: change(&it.policy),
            ..it.clone()
        });
        Arc::new(Self::of(policies.collect()))
    }
}

/// What is compiled follows from the policies.
impl PartialEq for Recipients {
    fn eq(&self, other: &Self) -> bool {
        self.policies == other.policies
    }
}

impl Eq for Recipients {}
