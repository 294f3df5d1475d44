//! What an earlier set-up found: one small text file, written last, so that it is there only when
//! all else is.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{Compiler, Core, Settings, Toolchain};
use crate::{command::Failure, workspace};

/// Raised when set-up makes something different: older results are then made anew.
const RECIPE: &str = "1";

/// The toolchain of an earlier set-up, if it was made for the same settings and its programs are
/// still there.
pub(super) fn read(home: &Path, settings: &Settings) -> Option<Toolchain> {
    let text = fs::read_to_string(home.join("stamp")).ok()?;
    let toolchain = parse(&text, settings)?;
    let compiler = &toolchain.compiler;
    let parts = [
        &compiler.cargo,
        &compiler.rustc,
        &compiler.libraries,
        &toolchain.linker,
    ];
    let complete = parts.into_iter().all(|path| path.exists());
    complete.then_some(toolchain)
}

pub(super) fn write(
    home: &Path,
    settings: &Settings,
    toolchain: &Toolchain,
) -> Result<(), Failure> {
    workspace::write_atomically(&home.join("stamp"), format(settings, toolchain).as_bytes())
}

fn format(settings: &Settings, toolchain: &Toolchain) -> String {
    let asked = |path: &Option<PathBuf>| path.as_deref().map_or(String::new(), text);
    let Toolchain {
        compiler,
        linker,
        summary,
    } = toolchain;
    let core = match compiler.core {
        Core::Prebuilt => "prebuilt",
        Core::FromSource => "source",
    };
    format!(
        "recipe = {RECIPE}\nasked-rustc = {}\nasked-linker = {}\nsummary = {summary}\n\
         cargo = {}\nrustc = {}\n\
         core = {core}\nlibraries = {}\nlinker = {}\n",
        asked(&settings.rustc),
        asked(&settings.linker),
        text(&compiler.cargo),
        text(&compiler.rustc),
        text(&compiler.libraries),
        text(linker),
    )
}

fn parse(text: &str, settings: &Settings) -> Option<Toolchain> {
    let field = |name: &str| {
        text.lines()
            .filter_map(|line| line.split_once(" = "))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    };
    let asked = |name: &str| {
        field(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    if field("recipe")? != RECIPE
        || asked("asked-rustc") != settings.rustc
        || asked("asked-linker") != settings.linker
    {
        return None;
    }
    Some(Toolchain {
        compiler: Compiler {
            cargo: field("cargo")?.into(),
            rustc: field("rustc")?.into(),
            core: match field("core")? {
                "prebuilt" => Core::Prebuilt,
                "source" => Core::FromSource,
                _ => return None,
            },
            libraries: field("libraries")?.into(),
        },
        linker: field("linker")?.into(),
        summary: field("summary")?.to_owned(),
    })
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toolchain() -> Toolchain {
        Toolchain {
            compiler: Compiler {
                cargo: "/usr/bin/cargo".into(),
                rustc: "/cache/debian/usr/bin/rustc".into(),
                core: Core::Prebuilt,
                libraries: "/cache/debian/usr/lib".into(),
            },
            linker: "/cache/bpf linker/bin/bpf-linker".into(),
            summary: "rustc 1.96.0 = the distribution's".to_owned(),
        }
    }

    #[test]
    fn gives_back_what_was_remembered() {
        let settings = Settings {
            rustc: None,
            linker: Some("/opt/bpf-linker".into()),
        };

        assert_eq!(
            parse(&format(&settings, &toolchain()), &settings),
            Some(toolchain())
        );
    }

    #[test]
    fn forgets_a_set_up_made_for_other_settings() {
        let text = format(&Settings::default(), &toolchain());
        let named = Settings {
            rustc: Some("/opt/rustc".into()),
            linker: None,
        };

        assert_eq!(parse(&text, &named), None);
    }

    #[test]
    fn forgets_a_set_up_of_another_recipe_or_a_damaged_one() {
        let settings = Settings::default();
        let text = format(&settings, &toolchain());

        assert_eq!(
            parse(&text.replace("recipe = 1", "recipe = 0"), &settings),
            None
        );
        assert_eq!(
            parse(&text.replace("core = prebuilt", "core = ?"), &settings),
            None
        );
        assert_eq!(parse("", &settings), None);
    }
}
