//! Notices when an interface stops or begins to be filtered under a running daemon: `panic`, an
//! operator's `ip link`, a device that went away.

use std::collections::HashMap;

use super::{FilterStatus, InterfaceStatus, ObtainedMode};

/// How each interface was filtered when it was last looked at.
#[derive(Debug, Default)]
pub(super) struct Watch(HashMap<String, ObtainedMode>);

impl Watch {
    /// Logs what is not as it was. What is found at the first look was logged when it was attached.
    pub(super) fn look(&mut self, status: &FilterStatus) {
        for interface in self.changed(status) {
            let InterfaceStatus {
                name,
                mode,
                why,
                pinned,
                ..
            } = interface;
            if *mode == ObtainedMode::Detached {
                let why = why.as_deref().unwrap_or_default();
                tracing::warn!(interface = name, why, "unfiltered");
            } else {
                tracing::info!(interface = name, %mode, pinned, "attached");
            }
        }
    }

    fn changed<'s>(&mut self, status: &'s FilterStatus) -> Vec<&'s InterfaceStatus> {
        let FilterStatus::On(on) = status else {
            return Vec::new();
        };
        let differs = |interface: &&InterfaceStatus| {
            let before = self.0.insert(interface.name.clone(), interface.mode);
            before.is_some_and(|before| before != interface.mode)
        };
        on.interfaces.iter().filter(differs).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::OnStatus;

    fn status(mode: ObtainedMode) -> FilterStatus {
        FilterStatus::On(OnStatus {
            interfaces: vec![InterfaceStatus {
                name: "eth0".to_owned(),
                mode,
                why: None,
                pinned: true,
                why_unpinned: None,
            }],
            ..OnStatus::default()
        })
    }

    #[test]
    fn tells_each_change_once() {
        let mut watch = Watch::default();
        let changes = [
            ObtainedMode::Native,
            ObtainedMode::Native,
            ObtainedMode::Detached,
            ObtainedMode::Detached,
            ObtainedMode::Native,
        ]
        .map(|mode| watch.changed(&status(mode)).len());
        assert_eq!(changes, [0, 0, 1, 0, 1]);
    }
}
