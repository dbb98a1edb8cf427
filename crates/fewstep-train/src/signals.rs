//! Stopping a run from outside: the first Ctrl-C or SIGTERM asks it to finish its step and write a
//! checkpoint; a second one ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// A wish to stop, shared between whoever has it and the run.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    asked: Arc<AtomicBool>,
    /// The number of the signal that asked; 0 if none did.
    signal: Arc<AtomicUsize>,
}

impl Stop {
    /// A wish that nobody has yet.
    pub fn new() -> Self {
        Stop::default()
    }

    /// The wish that Ctrl-C and SIGTERM express from now on.
    ///
    /// # Errors
    /// The system refuses the handlers.
    pub fn on_signals() -> std::io::Result<Self> {
        let stop = Stop::new();
        for signal in [SIGINT, SIGTERM] {
            // The order matters: the first signal finds the flag unset, and sets it.
            flag::register_conditional_shutdown(signal, 128 + signal, stop.asked.clone())?;
            flag::register(signal, stop.asked.clone())?;
            flag::register_usize(signal, stop.signal.clone(), signal as usize)?;
        }
        Ok(stop)
    }

    /// Asks the run to stop after its step.
    pub fn ask(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    /// Whether somebody asked.
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// The number of the signal that asked, if one did: a process that it ended exits with 128 plus it.
    pub fn signal(&self) -> Option<i32> {
        match self.signal.load(Ordering::Relaxed) {
            0 => None,
            number => i32::try_from(number).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_asks_to_stop_and_is_known() {
        let stop = Stop::on_signals().unwrap();
        assert!(!stop.is_asked());
        signal_hook::low_level::raise(SIGTERM).unwrap();
        assert!(stop.is_asked());
        assert_eq!(stop.signal(), Some(SIGTERM));
        let plain = Stop::new();
        plain.ask();
        assert_eq!((plain.is_asked(), plain.signal()), (true, None));
    }
}
