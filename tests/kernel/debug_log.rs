//! Feature `debug-log`: what the program says of single frames arrives in tracing, and the object
//! that is released says nothing.

use std::{
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use greygate::{
    clock::{Clock as _, SystemClock},
    kernel::{Change, Mode},
    policy::SentenceLevel,
};
use object::{Object as _, ObjectSymbol as _};
use support::{interrupt::settle, needs, requirements};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    layer::{Context, Layer, SubscriberExt as _},
    registry,
};

use crate::stage::{CASTS, Cast, Stage, sentence};

#[test]
fn line_of_a_dropped_frame_arrives_in_tracing() {
    let ((), object) = needs!(
        requirements::network_namespaces(),
        requirements::xdp_debug_object()
    );
    let stage = Stage::new();
    let mut filter = stage.open(&stage.settings(&object, Mode::NativePreferred));
    let Cast { sentenced, mx, .. } = CASTS[0];
    let block = sentence(sentenced, SentenceLevel::Block, Duration::from_hours(1));
    filter
        .apply(&[Change::Put(block)], SystemClock.now())
        .expect("there is room");
    stage.assert_dropped(sentenced, mx);

    let heard = Heard::default();
    let subscriber = registry().with(heard.clone());
    tracing::subscriber::with_default(subscriber, || {
        let told = settle(Duration::from_secs(10), || {
            filter.tend();
            heard.says("blocked").then_some(())
        });
        assert!(told.is_some(), "{heard:?}");
    });
}

#[test]
fn released_object_has_no_log() {
    let (released, debug) = needs!(requirements::xdp_object(), requirements::xdp_debug_object());
    let speaks = |path| {
        let bytes = std::fs::read(path).expect("a readable object");
        let file = object::File::parse(&*bytes).expect("an ELF file");
        file.symbols().any(|symbol| symbol.name() == Ok("AYA_LOGS"))
    };
    assert!(speaks(debug), "or the map has another name now");
    assert!(!speaks(released));
}

/// What the program said, by the field that its lines have.
#[derive(Clone, Debug, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    fn says(&self, word: &str) -> bool {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().any(|line| line == word)
    }
}

impl<S: Subscriber> Layer<S> for Heard {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        event.record(&mut self.clone());
    }
}

impl Visit for Heard {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "says" {
            let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            lines.push(format!("{value:?}"));
        }
    }
}
