//! `docs/advisories.md` and `docs/hardware.md` name tests as their evidence: each of them must exist.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Folders that hold tests.
const FOLDERS: [&str; 6] = [
    "boot",
    "dom0-tools",
    "hv-core",
    "pv-drivers",
    "tests",
    "xtask",
];

#[test]
fn every_test_that_the_advisories_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("docs/advisories.md")).unwrap();
    let named = named_tests(&page);
    assert!(named.len() > 50, "the tables were not understood");
    let known = known_tests(&root);
    let missing: Vec<&String> = named.iter().filter(|name| !known.contains(*name)).collect();
    assert!(
        missing.is_empty(),
        "docs/advisories.md names tests that do not exist: {missing:?}"
    );
}

#[test]
fn every_test_that_the_hardware_page_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("docs/hardware.md")).unwrap();
    let is_name = |name: &String| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let named: BTreeSet<String> = named_tests(&page).into_iter().filter(is_name).collect();
    assert!(named.len() > 10, "the tables were not understood");
    let known = known_tests(&root);
    let missing: Vec<&String> = named.iter().filter(|name| !known.contains(*name)).collect();
    assert!(
        missing.is_empty(),
        "docs/hardware.md names tests that do not exist: {missing:?}"
    );
}

#[test]
fn a_row_without_evidence_says_so() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("docs/advisories.md")).unwrap();
    for evidence in evidence(&page) {
        let honest = evidence.contains('`')
            || evidence.starts_with("not tested")
            || evidence.starts_with("by construction: ");
        assert!(honest, "evidence of another kind: {evidence}");
    }
}

/// The last cells of all rows with four cells, without the heads of the tables.
fn evidence(page: &str) -> impl Iterator<Item = &str> {
    page.lines().filter_map(|line| {
        let cells: Vec<&str> = line
            .strip_prefix('|')?
            .strip_suffix('|')?
            .split('|')
            .map(str::trim)
            .collect();
        match cells[..] {
            [_, _, _, last] if last != "shown by" && !last.starts_with("--") => Some(last),
            _ => None,
        }
    })
}

fn named_tests(page: &str) -> BTreeSet<String> {
    evidence(page)
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect()
}

/// Cases of the PV test kernel, and functions under `#[test]`.
fn known_tests(root: &Path) -> BTreeSet<String> {
    let mut files = Vec::new();
    for folder in FOLDERS {
        collect(&root.join(folder), &mut files);
    }
    let mut known = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            if let Some(rest) = line.strip_prefix("case(\"") {
                known.extend(rest.split('"').next().map(str::to_owned));
            }
            if line == "#[test]" {
                is_test = true;
            } else if let Some(rest) = line.strip_prefix("fn ") {
                if is_test {
                    known.extend(rest.split('(').next().map(str::to_owned));
                }
                is_test = false;
            }
        }
    }
    known
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            if entry.file_name() != "target" {
                collect(&path, files);
            }
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            files.push(path);
        }
    }
}
