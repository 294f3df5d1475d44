//! What a program needs of a Debian system: the packages of its libraries, read from its own
//! header, with the oldest C library that has every symbol it asks for.

use std::{collections::BTreeSet, fs, path::Path};

use object::{
    Endianness,
    read::elf::{ElfFile64, FileHeader as _, SectionHeader as _},
};

use crate::command::Failure;

/// The packages, as `Depends:` has them.
pub(super) fn depends(program: &Path) -> Result<String, Failure> {
    let bytes = fs::read(program).map_err(Failure::file("read", program))?;
    let needs = Needs::of(&bytes).map_err(|error| {
        Failure::new(
            format!("cannot tell what {} needs", program.display()),
            error,
            "build it anew: cargo xtask build",
        )
    })?;
    needs.packages()
}

/// What the dynamic linker is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Needs {
    /// File names, such as `libc.so.6`.
    libraries: BTreeSet<String>,
    /// Versions of symbols, such as `GLIBC_2.34`.
    versions: BTreeSet<String>,
}

impl Needs {
    fn of(program: &[u8]) -> object::Result<Self> {
        let file = ElfFile64::<Endianness>::parse(program)?;
        let (header, endian) = (file.elf_header(), file.endian());
        let sections = header.sections(endian, program)?;
        let mut needs = Self::default();
        for section in sections.iter() {
            let Some((mut entries, link)) = section.gnu_verneed(endian, program)? else {
                continue;
            };
            let names = sections.strings(endian, program, link)?;
            while let Some((library, mut versions)) = entries.next()? {
                let library = library.file(endian, names)?;
                needs.libraries.insert(text(library));
                while let Some(version) = versions.next()? {
                    needs.versions.insert(text(version.name(endian, names)?));
                }
            }
        }
        Ok(needs)
    }

    fn packages(&self) -> Result<String, Failure> {
        let mut packages = BTreeSet::new();
        for library in &self.libraries {
            let known = PACKAGES.iter().find(|(name, _)| library.starts_with(name));
            let (_, package) = known.ok_or_else(|| {
                Failure::new(
                    "cannot tell what the package depends on",
                    format!("which package brings {library} is not known"),
                    "add it to PACKAGES in xtask/src/dist/needs.rs",
                )
            })?;
            packages.insert(*package);
        }
        let named = packages.into_iter().map(|package| match self.c_library() {
            Some((major, minor)) if package == C_LIBRARY => {
                format!("{package} (>= {major}.{minor})")
            }
            _ => package.to_owned(),
        });
        Ok(named.collect::<Vec<_>>().join(", "))
    }

    /// The newest version of the C library that a symbol came with.
    fn c_library(&self) -> Option<(u32, u32)> {
        let number = |version: &String| {
            if version == "GLIBC_ABI_DT_RELR" {
                return Some((2, 36)); // a feature of the dynamic linker, which came with it
            }
            let mut parts = version.strip_prefix("GLIBC_")?.split('.');
            Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
        };
        self.versions.iter().filter_map(number).max()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const C_LIBRARY: &str = "libc6";

/// How the file names begin, and whose they are.
const PACKAGES: [(&str, &str); 5] = [
    ("ld-linux", C_LIBRARY),
    ("ld64.so", C_LIBRARY),
    ("libc.so", C_LIBRARY),
    ("libgcc_s.so", "libgcc-s1"),
    ("libm.so", C_LIBRARY),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(libraries: &[&str], versions: &[&str]) -> Needs {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        Needs {
            libraries: owned(libraries),
            versions: owned(versions),
        }
    }

    #[test]
    fn newest_symbol_says_which_c_library() {
        let needs = needs(
            &["libc.so.6", "libgcc_s.so.1", "libm.so.6"],
            &["GCC_3.0", "GLIBC_2.2.5", "GLIBC_2.34", "GLIBC_2.9"],
        );
        let packages = needs.packages().expect("all are known");
        assert_eq!(packages, "libc6 (>= 2.34), libgcc-s1");
    }

    #[test]
    fn relative_relocations_want_the_linker_that_came_with_them() {
        let needs = needs(&["libc.so.6"], &["GLIBC_2.34", "GLIBC_ABI_DT_RELR"]);
        assert_eq!(needs.c_library(), Some((2, 36)));
    }

    #[test]
    fn library_of_nobody_is_named() {
        let failure = needs(&["libssl.so.3"], &[]).packages().expect_err("whose?");
        assert!(failure.to_string().contains("libssl.so.3"), "{failure}");
    }

    #[test]
    fn this_very_program_needs_a_c_library() {
        let program = std::env::current_exe().expect("it runs");
        let depends = depends(&program).expect("it is a program");
        assert!(depends.contains("libc6 (>= 2."), "{depends}");
    }
}
