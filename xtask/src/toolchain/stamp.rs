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

/// The toolchain of an earlier set-up, if it was made for the same settings, its programs are still
/// there and the compiler is still the one that the linker was made for: rustup updates a nightly in
/// its place.
pub(super) fn read(home: &Path, settings: &Settings) -> Option<Toolchain> {
    read_where(home, settings, |compiler| compiler.version().ok())
}

fn read_where(
    home: &Path,
    settings: &Settings,
    version: impl Fn(&Compiler) -> Option<(String, u32)>,
) -> Option<Toolchain> {
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
    let is_same = || version(compiler).as_ref() == Some(&toolchain.version);
    (complete && is_same()).then_some(toolchain)
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
        version: (release, llvm),
        summary,
    } = toolchain;
    let core = match compiler.core {
        Core::Prebuilt => "prebuilt",
        Core::FromSource => "source",
    };
    format!(
        "recipe = {RECIPE}\nasked-rustc = {}\nasked-linker = {}\nsummary = {summary}\n\
         release = {release}\nllvm = {llvm}\ncargo = {}\nrustc = {}\n\
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
        version: (field("release")?.to_owned(), field("llvm")?.parse().ok()?),
        summary: field("summary")?.to_owned(),
    })
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use std::env;

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
            version: ("1.96.0".to_owned(), 22),
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
    fn forgets_a_set_up_whose_compiler_was_updated_in_its_place() {
        let home = env::temp_dir().join(format!("greygate-xtask-stamp-{}", std::process::id()));
        fs::create_dir_all(&home).expect("the temporary folder is writable");
        let present = env::current_exe().expect("this binary");
        let remembered = Toolchain {
            compiler: Compiler {
                cargo: present.clone(),
                rustc: present.clone(),
                core: Core::FromSource,
                libraries: home.clone(),
            },
            linker: present,
            version: ("1.98.0-nightly".to_owned(), 22),
            summary: "a nightly".to_owned(),
        };
        let settings = Settings::default();
        write(&home, &settings, &remembered).expect("the folder is writable");
        let says = |llvm| move |_: &Compiler| Some(("1.98.0-nightly".to_owned(), llvm));

        assert_eq!(read_where(&home, &settings, says(22)), Some(remembered));
        assert_eq!(read_where(&home, &settings, says(23)), None);
        assert_eq!(read_where(&home, &settings, |_| None), None);
        fs::remove_dir_all(home).expect("the test's own folder can be removed");
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
