//! What others tell of mail: the content filter behind greygate, or the operator.

use std::net::IpAddr;

use crate::policy::Timestamp;

use super::Store;

impl Store {
    /// Hears that mail of `address` was spam, or was not. Its verified reverse `name` tells its
    /// client network; empty if it has none, [`None`] if that is not known.
    pub fn report_mail(&self, address: IpAddr, name: Option<&[u8]>, spam: bool, now: Timestamp) {
        let _ = (self, address, name, spam, now);
    }

    /// Hears that somebody else refused a message of `address` for good, of so many bytes as far as
    /// that is known.
    pub fn report_reject(
        &self,
        address: IpAddr,
        reverse_path: &[u8],
        recipient: &[u8],
        size: Option<u64>,
        now: Timestamp,
    ) {
        let _ = (self, address, reverse_path, recipient, size, now);
    }
}
