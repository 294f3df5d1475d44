//! What others tell of mail that they refused: the content filter behind greygate, or the operator.

use std::net::IpAddr;

use crate::policy::Timestamp;

use super::Store;

impl Store {
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
