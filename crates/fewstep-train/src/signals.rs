//! What a run is asked from outside: the first Ctrl-C or SIGTERM asks it to finish its step and write a checkpoint; a
//! second one ends the process at once. SIGUSR1 asks how it stands, SIGUSR2 for a checkpoint now.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::flag;

/// A wish to stop, and smaller ones, shared between whoever has them and the run.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    asked: Arc<AtomicBool>,
    /// The number of the signal that asked; 0 if none did.
    signal: Arc<AtomicUsize>,
    /// Somebody asks how the run stands.
    state: Arc<AtomicBool>,
    /// Somebody asks for a checkpoint.
    checkpoint: Arc<AtomicBool>,
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

    /// From now on SIGUSR1 asks how the run stands, and SIGUSR2 for a checkpoint.
    ///
    /// # Errors
    /// The system refuses the handlers.
    pub fn and_wishes(self) -> std::io::Result<Self> {
        flag::register(SIGUSR1, self.state.clone())?;
        flag::register(SIGUSR2, self.checkpoint.clone())?;
        Ok(self)
    }

    /// Asks for a checkpoint after the step, and the run to go on.
    pub fn ask_for_checkpoint(&self) {
        self.checkpoint.store(true, Ordering::Relaxed);
    }

    /// Whether somebody asked for a checkpoint since this was called last.
    pub fn take_checkpoint_wish(&self) -> bool {
        self.checkpoint.swap(false, Ordering::Relaxed)
    }

    /// Whether somebody asked how the run stands since this was called last.
    pub fn take_state_wish(&self) -> bool {
        self.state.swap(false, Ordering::Relaxed)
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
        let stop = stop.and_wishes().unwrap();
        assert!(!stop.take_state_wish() && !stop.take_checkpoint_wish());
        signal_hook::low_level::raise(SIGUSR1).unwrap();
        assert!(stop.take_state_wish() && !stop.take_state_wish());
        signal_hook::low_level::raise(SIGUSR2).unwrap();
        assert!(stop.take_checkpoint_wish() && !stop.take_checkpoint_wish());
        let plain = Stop::new();
        plain.ask();
        assert_eq!((plain.is_asked(), plain.signal()), (true, None));
    }
}
