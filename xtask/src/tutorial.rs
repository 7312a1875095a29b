//! The guest of `docs/guest-tutorial.md`: its files are the document's blocks.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::setup::{self, Need};
use crate::{paths, process};

/// The document.
const TEXT: &str = include_str!("../../docs/guest-tutorial.md");

/// The guest's name in it.
pub const NAME: &str = "my-guest";

/// Where the document has this repository.
const REPOSITORY: &str = "../oxen";

/// The blocks that are files: name and content.
fn files(text: &str) -> Vec<(&str, String)> {
    let mut files = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some((_, name)) = line
            .strip_prefix("```")
            .and_then(|tag| tag.split_once(" file="))
        else {
            continue;
        };
        let content: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        files.push((name, content.join("\n") + "\n"));
    }
    files
}

/// The content of the guest's configuration.
pub fn config() -> String {
    let name = format!("{NAME}.cfg");
    let mut files = files(TEXT).into_iter();
    files.find(|file| file.0 == name).unwrap_or_default().1
}

/// Does what the document says, in a folder outside of the repository; the kernel.
///
/// # Errors
/// When it does not compile.
pub fn kernel() -> Result<PathBuf> {
    setup::ensure(&[Need::Target])?;
    let folder = std::env::temp_dir().join(format!("oxen-tutorial-{}", std::process::id()));
    let built = build(&folder);
    // Whatever came of it, the folder is of no more use.
    let _ = std::fs::remove_dir_all(&folder);
    built
}

fn build(folder: &Path) -> Result<PathBuf> {
    let root = paths::root();
    let root_text = root.to_str().context("the repository's path is no text")?;
    for (name, content) in files(TEXT) {
        let file = folder.join(name);
        if let Some(above) = file.parent() {
            std::fs::create_dir_all(above)?;
        }
        let content = content.replace(REPOSITORY, root_text);
        std::fs::write(&file, content)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    // The same versions as everywhere.
    std::fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock"))?;
    let target = paths::cache_dir("tutorial")?;
    let mut cargo = process::cargo();
    cargo
        .current_dir(folder)
        .args(["build", "--quiet", "--release"])
        .env("CARGO_TARGET_DIR", &target);
    process::run(&mut cargo)?;
    let kernel = target.join(setup::BARE_METAL).join("release").join(NAME);
    ensure!(kernel.exists(), "the tutorial's guest is not called {NAME}");
    Ok(kernel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_with_a_name_are_files() {
        let text = "# A\n```sh\nls\n```\n```toml file=a/b.toml\nx = 1\n\ny = 2\n```\nend\n";
        assert_eq!(files(text), [("a/b.toml", "x = 1\n\ny = 2\n".to_owned())]);
    }

    #[test]
    fn the_tutorial_has_all_its_files() {
        let names: Vec<&str> = files(TEXT).iter().map(|file| file.0).collect();
        assert_eq!(
            names,
            [
                "Cargo.toml",
                "build.rs",
                ".cargo/config.toml",
                "src/main.rs",
                "my-guest.cfg"
            ]
        );
        assert!(TEXT.contains(REPOSITORY) && config().contains("vif"));
    }
}
