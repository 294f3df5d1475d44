//! What the lab tells: numbered scenes, and in each what was tried, what was seen, what must hold.
//!
//! Nothing is said that was not seen. The first thing that does not hold ends the story.

use std::fmt::Display;
use std::time::{Duration, Instant};

use crate::error::Error;

/// The scenes played so far.
#[derive(Debug, Default)]
pub struct Story {
    scenes: Vec<Scene>,
}

/// One scene, while it is played and afterwards.
#[derive(Debug)]
pub struct Scene {
    number: usize,
    title: String,
    result: String,
    took: Duration,
}

impl Story {
    /// Plays a scene and prints it as it goes. Its last `holds` goes into the table.
    pub fn scene<T>(
        &mut self,
        title: &str,
        play: impl FnOnce(&mut Scene) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut scene = Scene {
            number: self.scenes.len() + 1,
            title: title.to_owned(),
            result: String::new(),
            took: Duration::ZERO,
        };
        println!("\n{:2}. {title}", scene.number);
        let began = Instant::now();
        let played = play(&mut scene);
        scene.took = began.elapsed();
        if let Err(error) = &played {
            let chain = error.chain();
            scene.result = format!("FAILED: {}", chain.lines().next().unwrap_or_default());
            println!("    FAILED {}", chain.replace('\n', "\n           "));
        }
        self.scenes.push(scene);
        played
    }

    /// The scenes and how they went, one a line.
    pub fn print_table(&self) {
        let width = self.scenes.iter().map(|scene| scene.title.chars().count());
        let width = width.max().unwrap_or_default();
        println!();
        for scene in &self.scenes {
            let Scene {
                number,
                title,
                result,
                took,
            } = scene;
            let seconds = took.as_secs_f32();
            println!("{number:3}  {title:width$}  {seconds:5.1} s  {result}");
        }
    }
}

impl Scene {
    /// Says what is tried.
    pub fn tries(&self, what: impl Display) {
        println!("    tried  {what}");
    }

    /// Says what was seen.
    pub fn saw(&self, what: impl Display) {
        println!("    saw    {what}");
    }

    /// Says that `what` holds, when it does; otherwise the scene has failed with what was `seen`.
    pub fn holds(&mut self, what: &str, truth: bool, seen: impl Display) -> Result<(), Error> {
        if !truth {
            return Err(Error::unexpected(format!("it should hold: {what}"), seen));
        }
        println!("    holds  {what}");
        what.clone_into(&mut self.result);
        Ok(())
    }
}
