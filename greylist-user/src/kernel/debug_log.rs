//! What the kernel program says of single frames, in tracing: feature `debug-log`, for people who
//! work on greygate. A release counts instead.
//!
//! Needs an object built with the same feature; another one is silent.

use aya::Ebpf;
use aya_log::EbpfLogger;

/// The lines that wait in a ring buffer, 128 KiB of them; what finds no room there is lost.
pub(super) struct ProgramLog {
    logger: EbpfLogger<ToTracing>,
}

impl ProgramLog {
    /// Finds the buffer; `None`, and a line that says why, when the program has nothing to say.
    pub(super) fn of(ebpf: &mut Ebpf) -> Option<Self> {
        let logger = EbpfLogger::init_with_logger(ebpf, ToTracing)
            .inspect_err(|error| tracing::debug!(%error, "speechless"))
            .ok()?;
        Some(Self { logger })
    }

    /// Tells the lines that wait.
    pub(super) fn tell(&mut self) {
        self.logger.flush();
    }
}

/// aya-log speaks through the `log` crate; greygate listens through tracing.
struct ToTracing;

impl log::Log for ToTracing {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let says = record.args();
        match record.level() {
            log::Level::Error => tracing::error!(%says, "program"),
            log::Level::Warn => tracing::warn!(%says, "program"),
            log::Level::Info => tracing::info!(%says, "program"),
            log::Level::Debug => tracing::debug!(%says, "program"),
            log::Level::Trace => tracing::trace!(%says, "program"),
        }
    }

    fn flush(&self) {}
}
