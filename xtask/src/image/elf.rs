//! What a program or a library needs to be loaded.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail};
use object::Endianness;
use object::elf::{DT_NEEDED, FileHeader64};
use object::read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _};

/// What the loader reads of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Needs {
    /// The loader itself, by its path; only programs name one.
    pub(crate) interpreter: Option<String>,
    /// Libraries, by the names that the loader looks for.
    pub(crate) libraries: BTreeSet<String>,
}

impl Needs {
    /// Reads a 64-bit ELF file.
    pub(crate) fn of(file: &[u8]) -> anyhow::Result<Self> {
        let header = FileHeader64::<Endianness>::parse(file).context("it is no 64-bit ELF file")?;
        let endian = header.endian()?;
        let mut interpreter = None;
        for segment in header.program_headers(endian, file)? {
            if let Some(path) = segment.interpreter(endian, file)? {
                interpreter = Some(text(path)?);
            }
        }
        let sections = header.sections(endian, file)?;
        let mut libraries = BTreeSet::new();
        if let Some((entries, strings)) = sections.dynamic(endian, file)? {
            let strings = sections.strings(endian, file, strings)?;
            for entry in entries {
                if entry.tag(endian) == DT_NEEDED {
                    libraries.insert(text(entry.string(endian, strings)?)?);
                }
            }
        }
        Ok(Self {
            interpreter,
            libraries,
        })
    }
}

fn text(bytes: &[u8]) -> anyhow::Result<String> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        bail!("a name in it is no text");
    };
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_names_its_loader_and_its_c_library() {
        let program = std::fs::read("/bin/sh").unwrap();
        let needs = Needs::of(&program).unwrap();
        assert!(needs.interpreter.unwrap().contains("/ld"));
        assert!(needs.libraries.contains("libc.so.6"));
    }

    #[test]
    fn a_file_of_another_kind_is_refused() {
        assert!(Needs::of(b"#!/bin/sh\n").is_err());
        assert!(Needs::of(&[]).is_err());
    }
}
