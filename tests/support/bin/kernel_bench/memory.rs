//! What a sentence holds of the kernel's memory, by the kernel's own account.

use support::Error;

use crate::{
    changes::CAPACITY,
    filter::{Greygate, Memory},
    nftables::{NFTABLES, Nftables},
    people::MANY,
    report::{Figure, Row, Samples, Target, Unit},
};

/// `greygate` has room for [`CAPACITY`] sentences of each family, which is taken at start; `nft` holds
/// [`MANY`].
pub(crate) fn rows(
    greygate: &Greygate,
    nft: &Result<Nftables<'_>, String>,
) -> Result<Vec<Row>, Error> {
    let Memory { ipv4, ipv6, all } = greygate.memory()?;
    let each = u64::from(CAPACITY);
    let sets = nft
        .as_ref()
        .map_err(Clone::clone)
        .map(|nft| Samples::one(divided(nft.grown, MANY as u64)));
    let row = |what: &str, bytes, beside: Option<Figure>, target| Row {
        what: what.to_owned(),
        unit: Unit::Bytes,
        greygate: Ok(Samples::one(bytes)),
        beside: beside.into_iter().map(|it| (NFTABLES, it)).collect(),
        target,
    };
    Ok(vec![
        row("an IPv4 sentence", divided(ipv4, each), Some(sets), None),
        row("an IPv6 sentence", divided(ipv6, each), None, None),
        row(
            "a sentence, all maps together",
            divided(all, 2 * each),
            None,
            Some(Target::AtMost(128.0)),
        ),
    ])
}

#[expect(clippy::cast_precision_loss, reason = "some hundred megabytes")]
fn divided(bytes: u64, sentences: u64) -> f64 {
    bytes as f64 / sentences as f64
}
