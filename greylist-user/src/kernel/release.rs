//! Which kernel this is, and whether it is old enough to know all that the filter needs.

use super::FilterError;

/// Refuses a kernel that is too old, before it refuses the program with a bare number.
///
/// What names no version is let through: the verifier is the judge then.
pub(super) fn check() -> Result<(), FilterError> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    suffices(release.trim())
}

fn suffices(release: &str) -> Result<(), FilterError> {
    match version(release) {
        Some(version) if version < OLDEST => Err(FilterError::OldKernel(release.to_owned())),
        _ => Ok(()),
    }
}

/// The first two numbers of a release such as `6.1.0-18-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    let mut number = || numbers.next()?.parse().ok();
    Some((number()?, number()?))
}

/// The oldest that is supported: `bpf_xdp_load_bytes` (5.18), `bpf_ktime_get_coarse_ns` (5.11),
/// multi-buffer programs (5.18), and maps that a process without rights may go on writing (6.0).
const OLDEST: (u32, u32) = (6, 1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_from_6_1_on_are_taken() {
        for release in [
            "6.1.0-18-amd64",
            "6.1",
            "6.12-rc3",
            "6.18.44-fc",
            "7.0.0",
            "10.0.1",
        ] {
            assert!(suffices(release).is_ok(), "{release}");
        }
    }

    #[test]
    fn older_kernels_are_refused_by_name() {
        for release in ["5.10.0", "5.15.0-91-generic", "6.0.19", "4.18.0-553.el8"] {
            let error = suffices(release).expect_err("too old").to_string();
            assert!(
                error.contains(release) && error.contains("6.1"),
                "{release}: {error}"
            );
        }
    }

    #[test]
    fn what_names_no_version_is_left_to_the_verifier() {
        for release in ["", "6", "custom", "v6.x"] {
            assert!(suffices(release).is_ok(), "{release}");
        }
    }

    #[test]
    fn this_kernel_suffices() {
        check().expect("the tests need one that does");
    }
}
