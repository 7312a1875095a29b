//! Mutates the seeds of every target and feeds them in. What fails leaves a file to try again.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;
use oxen_fuzz::mutate::{Random, mutant};
use oxen_fuzz::{TARGETS, Target, target};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Longest that one input may take. Generous: a busy machine is no fault.
const MOST_TIME: Duration = Duration::from_secs(20);

#[derive(Parser)]
#[command(
    name = "oxen-fuzz",
    about = "Feeds every parser damaged input",
    max_term_width = 100
)]
struct Args {
    /// Only these targets, and all of them when none is named
    #[arg(value_parser = find, value_name = "TARGET")]
    targets: Vec<&'static Target>,
    /// Mutants of each target
    #[arg(long, default_value_t = 1000)]
    runs: u64,
    /// Another number gives other mutants, the same one the same
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Feed this file instead of mutants, to one target
    #[arg(long, value_name = "FILE", conflicts_with_all = ["runs", "seed", "write_corpus"])]
    input: Option<PathBuf>,
    /// Only write the seeds, to FOLDER/TARGET/N, for `cargo fuzz`
    #[arg(long, value_name = "FOLDER")]
    write_corpus: Option<PathBuf>,
    /// Where the input that fails is left
    #[arg(long, value_name = "FOLDER", default_value = "target/fuzz")]
    failures: PathBuf,
    /// Only name the targets
    #[arg(long)]
    list: bool,
}

fn find(name: &str) -> Result<&'static Target, String> {
    target(name).ok_or_else(|| format!("no target `{name}`: --list names them"))
}

/// What is fed now, for the panic hook: dev builds abort after it.
static NOW: Mutex<Option<(&'static str, Vec<u8>)>> = Mutex::new(None);

fn main() -> ExitCode {
    let args = Args::parse();
    let all: Vec<&Target> = if args.targets.is_empty() {
        TARGETS.iter().collect()
    } else {
        args.targets.clone()
    };
    if args.list {
        for target in all {
            println!("{:18} {}", target.name, target.about);
        }
        return ExitCode::SUCCESS;
    }
    leave_failures(args.failures.clone());
    let outcome = if let Some(folder) = &args.write_corpus {
        all.iter().try_for_each(|target| write(target, folder))
    } else if let Some(file) = &args.input {
        all.iter().try_for_each(|target| again(target, file))
    } else {
        all.iter().try_for_each(|target| fuzz(target, &args))
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("oxen-fuzz: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Seeds, then mutants.
fn fuzz(target: &'static Target, args: &Args) -> Result<(), String> {
    let start = Instant::now();
    let seeds = (target.seeds)();
    // Each target has numbers of its own, whichever run beside it.
    let salt = target.name.bytes().fold(0_u64, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u64::from(byte))
    });
    let mut random = Random::new(args.seed.wrapping_add(salt));
    for seed in &seeds {
        feed(target, seed.clone(), &args.failures)?;
    }
    for _ in 0..args.runs {
        feed(target, mutant(&seeds, &mut random), &args.failures)?;
    }
    let took = start.elapsed().as_secs_f64();
    println!(
        "ok    {:18} {} inputs ({took:.1} s)",
        target.name,
        seeds.len() as u64 + args.runs
    );
    Ok(())
}

fn again(target: &'static Target, file: &Path) -> Result<(), String> {
    let bytes = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    feed(target, bytes, Path::new("target/fuzz"))?;
    println!("ok    {:18} {}", target.name, file.display());
    Ok(())
}

/// One input. A panic ends the program, by the hook.
fn feed(target: &'static Target, bytes: Vec<u8>, failures: &Path) -> Result<(), String> {
    let now = || NOW.lock().unwrap_or_else(PoisonError::into_inner);
    *now() = Some((target.name, bytes.clone()));
    MEMORY.reset_peak_usage();
    let (before, start) = (MEMORY.current_usage(), Instant::now());
    (target.fuzz)(&bytes);
    let took = start.elapsed();
    let memory = MEMORY.peak_usage().saturating_sub(before);
    *now() = None;
    let why = if memory > target.memory {
        format!(
            "takes {memory} bytes of memory, more than {}",
            target.memory
        )
    } else if took > MOST_TIME {
        format!("takes {took:?}")
    } else {
        return Ok(());
    };
    Err(format!(
        "{}: {why}: {}",
        target.name,
        keep(failures, target.name, &bytes)
    ))
}

/// Before a panic ends the program, its input is written down.
fn leave_failures(folder: PathBuf) {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        before(info);
        if let Ok(now) = NOW.try_lock()
            && let Some((name, bytes)) = &*now
        {
            eprintln!("oxen-fuzz: {name}: {}", keep(&folder, name, bytes));
        }
    }));
}

/// Writes an input down; says how to feed it again.
fn keep(folder: &Path, name: &str, bytes: &[u8]) -> String {
    let file = folder.join(format!("{name}.failed"));
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&file, bytes));
    match written {
        Ok(()) => format!(
            "try `cargo run -p oxen-fuzz -- {name} --input {}`",
            file.display()
        ),
        Err(error) => format!("the input cannot be written to {}: {error}", file.display()),
    }
}

fn write(target: &Target, folder: &Path) -> Result<(), String> {
    let folder = folder.join(target.name);
    let say = |error: std::io::Error| format!("{}: {error}", folder.display());
    std::fs::create_dir_all(&folder).map_err(say)?;
    for (n, seed) in (target.seeds)().iter().enumerate() {
        std::fs::write(folder.join(n.to_string()), seed).map_err(say)?;
    }
    Ok(())
}
