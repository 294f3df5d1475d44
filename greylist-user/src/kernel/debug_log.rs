//! What the kernel program says of single frames, in tracing: feature `debug-log`, for people who
//! work on greygate. A release counts instead.
//!
//! Needs an object built with the same feature; another one is silent.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread::JoinHandle,
    time::Duration,
};

use aya::Ebpf;
use aya_log::EbpfLogger;

/// A thread that reads the program's lines until this is dropped.
#[derive(Debug)]
pub(super) struct LogReader {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl LogReader {
    /// Starts reading; `None`, and a line that says why, when the program has nothing to say.
    pub(super) fn start(ebpf: &mut Ebpf) -> Option<Self> {
        let logger = EbpfLogger::init_with_logger(ebpf, ToTracing)
            .inspect_err(|error| tracing::debug!(%error, "speechless"))
            .ok()?;
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new()
            .name("kernel-log".to_owned())
            .spawn(move || read(logger, &stopped))
            .expect("a thread can be started while the daemon starts");
        Some(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for LogReader {
    fn drop(&mut self) {
        // Losing the sender is the signal. A panic of the thread has been printed by itself.
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn read(mut logger: EbpfLogger<ToTracing>, stopped: &Receiver<()>) {
    loop {
        logger.flush();
        if stopped.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// Short for a reader, and the ring buffer (128 KiB) holds the lines of a busy machine so long.
const INTERVAL: Duration = Duration::from_millis(100);

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
