//! Whether the workers are alive: they are asked now and then, and each answers from its own thread.
//!
//! Knows questions and answers; leaves what a silent worker means to who asks. A question wakes each
//! worker once and costs nothing between. A worker that waits, for a lock above all, does not answer;
//! one that is busy answers between two frames.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::watch;

use super::metrics::Metrics;

/// Asks the workers.
#[derive(Debug)]
pub struct Pulse {
    question: watch::Sender<u64>,
    answers: Vec<Arc<AtomicU64>>,
    metrics: Arc<Metrics>,
}

impl Pulse {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            question: watch::Sender::new(0),
            answers: Vec::new(),
            metrics,
        }
    }

    /// What one more worker answers with.
    pub(super) fn worker(&mut self) -> Answerer {
        let answer = Arc::<AtomicU64>::default();
        self.answers.push(Arc::clone(&answer));
        Answerer {
            question: self.question.subscribe(),
            answer,
        }
    }

    /// How many workers have not answered since the last call. Asks them again, and does not wait.
    pub fn silent_workers(&self) -> usize {
        let asked = *self.question.borrow();
        let silent = self
            .answers
            .iter()
            .filter(|answer| answer.load(Ordering::Relaxed) < asked)
            .count();
        self.metrics.workers_silent.set(saturated(silent));
        self.question.send_replace(asked + 1);
        silent
    }
}

/// A worker's end.
#[derive(Debug)]
pub(super) struct Answerer {
    question: watch::Receiver<u64>,
    answer: Arc<AtomicU64>,
}

impl Answerer {
    /// Answers as long as somebody asks.
    pub(super) async fn answer(mut self) {
        while self.question.changed().await.is_ok() {
            let asked = *self.question.borrow_and_update();
            self.answer.store(asked, Ordering::Relaxed);
        }
    }
}

fn saturated(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
