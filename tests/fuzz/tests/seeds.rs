//! The seeds reach what they are to reach: else mutants of them would test little.

use oxen_fuzz::mutate::{Random, mutant};
use oxen_fuzz::{TARGETS, target};

fn seeds(name: &str) -> Vec<Vec<u8>> {
    (target(name).expect("a target").seeds)()
}

#[test]
fn every_target_takes_its_seeds_and_some_mutants() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{}", target.name);
        for seed in &seeds {
            (target.fuzz)(seed);
        }
        let mut random = Random::new(7);
        for _ in 0..20 {
            (target.fuzz)(&mutant(&seeds, &mut random));
        }
    }
}

#[test]
fn kernels_among_the_seeds_are_kernels() {
    for seed in seeds("kernel-file") {
        dom0_tools::build::Kernel::open(seed).expect("a kernel");
    }
    for seed in seeds("kernel-elf") {
        pv_image::KernelImage::parse(&seed).expect("a kernel");
    }
}

#[test]
fn files_among_the_seeds_are_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("saved");
    for seed in seeds("save-file") {
        std::fs::write(&path, seed).unwrap();
        dom0_tools::stream::file::open(&path).expect("a saved domain");
    }
}
