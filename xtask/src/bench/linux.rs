//! Guests in Rust beside Linux guests, under the same dom0, on real Xen and on Oxen.

use anyhow::Result;

use super::beside::{self, Figures};
use super::table;
use crate::machine::Machine;
use crate::run::Hypervisor;

/// Measurements of one script, which prints `row linux: NAME|FIGURE` and `row rust: NAME|FIGURE`.
pub struct BesideLinux<'a> {
    /// What log files are called by.
    pub name: &'a str,
    pub script: &'a str,
    /// Of dom0, by their path.
    pub files: Vec<(String, Vec<u8>)>,
    pub machine: Machine,
    /// The ratio to Linux beyond which a row is behind.
    pub most: fn(&str) -> f64,
}

impl BesideLinux<'_> {
    /// Measures on both, and prints their rows.
    ///
    /// # Errors
    /// When a machine or its script fails, or nothing was measured.
    pub fn run(&self) -> Result<()> {
        let [xen, oxen] = [Hypervisor::Xen, Hypervisor::Oxen].map(|hypervisor| {
            let files = self.files.clone();
            beside::measure(hypervisor, self.name, self.script, files, &self.machine)
        });
        let rows = rows(&xen?, &oxen?, self.most);
        table::print(&HEAD, &rows);
        Ok(())
    }
}

const HEAD: [&str; 8] = [
    "",
    "Linux, Xen",
    "Rust, Xen",
    "ratio",
    "Linux, Oxen",
    "Rust, Oxen",
    "ratio",
    "",
];

fn rows(xen: &Figures, oxen: &Figures, most: fn(&str) -> f64) -> Vec<Vec<String>> {
    let names = xen
        .iter()
        .filter_map(|(name, _)| name.strip_prefix("linux: "));
    names
        .map(|name| {
            let mut cells = vec![name.to_owned()];
            let mut verdict = String::new();
            for side in [xen, oxen] {
                let (linux, rust) = (figure(side, "linux", name), figure(side, "rust", name));
                let shown = |figure: Option<u64>| figure.map_or("-".into(), table::grouped);
                let ratio = linux
                    .zip(rust)
                    .map(|(linux, rust)| rust as f64 / linux.max(1) as f64);
                match ratio {
                    None => verdict = "missing".into(),
                    Some(ratio) if verdict.is_empty() => {
                        verdict = table::behind(ratio, most(name));
                    }
                    Some(_) => {}
                }
                cells.extend([
                    shown(linux),
                    shown(rust),
                    ratio.map_or("-".into(), |ratio| format!("{ratio:.3}")),
                ]);
            }
            cells.push(verdict);
            cells
        })
        .collect()
}

fn figure(side: &Figures, who: &str, name: &str) -> Option<u64> {
    let wanted = format!("{who}: {name}");
    let found = side.iter().find(|entry| entry.0 == wanted);
    found.map(|entry| entry.1)
}

#[cfg(test)]
mod tests {
    use super::rows;

    fn figures(entries: &[(&str, u64)]) -> Vec<(String, u64)> {
        let owned = entries
            .iter()
            .map(|(name, figure)| ((*name).to_owned(), *figure));
        owned.collect()
    }

    #[test]
    fn a_row_is_behind_if_it_is_on_one_of_them() {
        let xen = figures(&[("linux: read", 1000), ("rust: read", 900)]);
        let oxen = figures(&[("linux: read", 1000), ("rust: read", 1100)]);
        let found = rows(&xen, &oxen, |_| 1.0);
        assert_eq!(
            found[0],
            [
                "read", "1,000", "900", "0.900", "1,000", "1,100", "1.100", "behind"
            ]
        );
        assert_eq!(rows(&oxen, &xen, |_| 1.0)[0][7], "behind");
        assert_eq!(rows(&xen, &xen, |_| 1.0)[0][7], "");
        assert_eq!(rows(&xen, &xen, |_| 0.1)[0][7], "behind");
    }

    #[test]
    fn what_is_missing_is_said() {
        let xen = figures(&[("linux: read", 1000), ("rust: read", 900)]);
        let oxen = figures(&[("linux: read", 1000)]);
        let found = rows(&xen, &oxen, |_| 1.0);
        assert_eq!(found[0][4..], ["1,000", "-", "-", "missing"]);
    }
}
