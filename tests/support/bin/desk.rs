//! The scenes at a postmaster's desk: what the commands say of what was just played.

use serde_json::Value;
use support::error::Error;
use support::site::Site;
use support::story::Scene;

/// The log that Postfix wrote of all this, replayed by `simulate` under the same configuration.
pub(super) fn rehearsal(scene: &mut Scene, site: &Site) -> Result<(), Error> {
    let log = site.postfix().log_file();
    let log = log.display().to_string();
    scene.tries("greygate simulate --log mail.log, which this Postfix wrote");
    let report = site.greygate().ask(&["simulate", "--log", &log])?;
    let number = |pointer: &str| report.pointer(pointer).and_then(Value::as_u64);
    let (attempts, deferrals) = (number("/seen/attempts"), number("/shown/deferrals"));
    let (waited, passed) = (number("/shown/delay/p50"), number("/shown/passed_after"));
    let word = |count: Option<u64>| count.map_or_else(|| "?".to_owned(), |it| it.to_string());
    scene.saw(format!(
        "{} attempts in the log, {} of them deferred; {} mails passed after waiting, half of them within {} s",
        word(attempts),
        word(deferrals),
        word(passed),
        word(waited)
    ));
    let agrees = deferrals > Some(0) && deferrals <= attempts && passed > Some(0);
    let shows = report.pointer("/log/shows_greylisting") == Some(&true.into());
    scene.holds(
        "yesterday's log says what greygate would do, by its own engine",
        agrees && shows,
        format!("{report:#}"),
    )
}

/// Everything that was played, on one screen.
pub(super) fn one_screen(scene: &mut Scene, site: &Site) -> Result<(), Error> {
    scene.tries("greygate top --once");
    let screen = site.greygate().run(&["top", "--once"])?;
    for line in screen.lines() {
        scene.saw(line);
    }
    scene.holds(
        "one screen tells health, rates, and whom the kernel holds off",
        screen.contains("sentence"),
        &screen,
    )
}
