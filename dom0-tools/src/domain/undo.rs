//! What was done is undone, last first, unless it is kept.

use std::fmt;

/// One step back; its error is for the log.
type Step<'a> = Box<dyn FnOnce() -> Result<(), String> + 'a>;

/// Steps back. Dropped, it goes all of them.
#[must_use = "dropping it undoes everything"]
#[derive(Default)]
pub struct Undo<'a> {
    steps: Vec<(&'static str, Step<'a>)>,
}

impl<'a> Undo<'a> {
    /// Nothing done yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How to undo what has just been done, and its name for the log.
    pub fn push(&mut self, what: &'static str, step: impl FnOnce() -> Result<(), String> + 'a) {
        self.steps.push((what, Box::new(step)));
    }

    /// Everything went well.
    pub fn keep(mut self) {
        self.steps.clear();
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        while let Some((what, step)) = self.steps.pop() {
            // The others are undone all the same.
            if let Err(error) = step() {
                tracing::warn!(what, error, "could not be undone");
            }
        }
    }
}

impl fmt::Debug for Undo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.steps.iter().map(|(what, _)| what))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn last_first_and_past_failures() {
        let log = RefCell::new(Vec::new());
        let mut undo = Undo::new();
        for number in 0..3 {
            let log = &log;
            undo.push("step", move || {
                log.borrow_mut().push(number);
                if number == 1 {
                    Err("no".into())
                } else {
                    Ok(())
                }
            });
        }
        drop(undo);
        assert_eq!(*log.borrow(), [2, 1, 0]);
    }

    #[test]
    fn what_is_kept_stays() {
        let mut undo = Undo::new();
        undo.push("step", || panic!("undone"));
        undo.keep();
    }
}
