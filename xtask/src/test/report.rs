//! Counting what passed and what failed, and saying so.

use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use super::Part;
use anyhow::{Context, Result, bail};

/// The tests so far.
#[derive(Default)]
pub struct Report {
    passed: u32,
    failed: Vec<String>,
    /// How long each part took.
    parts: Vec<String>,
}

impl Report {
    /// Runs one test and notes its outcome.
    pub fn test(&mut self, name: &str, test: impl FnOnce() -> Result<()>) {
        let start = Instant::now();
        let outcome = test();
        let took = start.elapsed().as_secs_f64();
        match outcome {
            Ok(()) => self.pass(name, took),
            Err(why) => self.fail(name, took, &format!("{why:#}")),
        }
    }

    /// Runs a command that is one test: it passes when the command succeeds silently or not.
    pub fn command(&mut self, name: &str, command: &mut Command) {
        self.test(name, || {
            let output = command.output().context("cannot start it")?;
            if !output.status.success() {
                eprint!("{}", String::from_utf8_lossy(&output.stdout));
                eprint!("{}", String::from_utf8_lossy(&output.stderr));
                bail!("it ended with {}", output.status);
            }
            Ok(())
        });
    }

    /// Runs commands of `cargo test`'s kin at once and counts each of the tests they ran.
    pub fn cargo_tests(&mut self, name: &str, commands: impl IntoIterator<Item = Command>) {
        let start = Instant::now();
        let running: Vec<_> = commands
            .into_iter()
            .map(|mut command| thread::spawn(move || command.output()))
            .collect();
        let (mut passed, mut failed) = (0, 0);
        for command in running {
            let output = match command.join().expect("a process is only waited for") {
                Ok(output) => output,
                Err(why) => {
                    self.fail(name, 0.0, &why.to_string());
                    continue;
                }
            };
            let text = String::from_utf8_lossy(&output.stdout);
            let (good, bad) = count(&text);
            passed += good;
            failed += bad.len();
            if !output.status.success() {
                eprint!("{text}{}", String::from_utf8_lossy(&output.stderr));
                if bad.is_empty() {
                    let took = start.elapsed().as_secs_f64();
                    self.fail(name, took, &format!("ended with {}", output.status));
                }
            }
            let bad = bad.iter().map(|test| format!("{name}: {test}"));
            self.failed.extend(bad);
        }
        self.passed += passed;
        let took = start.elapsed().as_secs_f64();
        println!("      {name}: {passed} passed, {failed} failed ({took:.0} s)");
    }

    /// Notes a verdict that came with others from one machine.
    pub fn verdict(&mut self, name: &str, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.passed += 1,
            Err(why) => self.fail(name, 0.0, &why),
        }
    }

    /// Notes how long a part of the tests took.
    pub fn took(&mut self, part: Part, time: Duration) {
        let part = format!("{part:?}").to_lowercase();
        self.parts
            .push(format!("{part} {:.0} s", time.as_secs_f64()));
    }

    /// Prints the time of each part and the count, failures first.
    pub fn close(self) -> ExitCode {
        println!("\ntime: {}", self.parts.join(", "));
        if !self.failed.is_empty() {
            println!("\nfailed:");
        }
        for name in &self.failed {
            println!("    {name}");
        }
        println!("\n{} passed, {} failed", self.passed, self.failed.len());
        if self.failed.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }

    fn pass(&mut self, name: &str, took: f64) {
        self.passed += 1;
        println!("ok    {name} ({took:.1} s)");
    }

    fn fail(&mut self, name: &str, took: f64, why: &str) {
        println!("FAIL  {name} ({took:.1} s): {why}");
        self.failed.push(name.to_owned());
    }
}

/// Counts libtest's lines: how many tests passed, and which failed.
fn count(text: &str) -> (u32, Vec<String>) {
    let mut passed = 0;
    let mut failed = Vec::new();
    for line in text.lines() {
        if let Some(counts) = line.strip_prefix("test result: ") {
            let number = counts
                .split_once(". ")
                .and_then(|(_, rest)| rest.split_once(" passed"));
            passed += number
                .and_then(|(number, _)| number.parse::<u32>().ok())
                .unwrap_or(0);
        } else if let Some(name) = line
            .strip_prefix("test ")
            .and_then(|l| l.strip_suffix(" ... FAILED"))
        {
            failed.push(name.to_owned());
        }
    }
    (passed, failed)
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn libtest_is_counted() {
        let text = "test a::b ... ok\ntest c ... FAILED\n\
                    test result: FAILED. 1 passed; 1 failed; 0 ignored;\n\
                    test result: ok. 41 passed; 0 failed; 0 ignored;\n";
        assert_eq!(count(text), (42, vec!["c".to_owned()]));
    }
}
