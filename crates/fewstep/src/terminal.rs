//! What a person sees: results on standard output, all else on standard error. The only place that prints.

use std::io::{self, IsTerminal, Write};

/// Prints a result. A reader that has gone away (`| head`) is no error.
pub(crate) fn result(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// Says something on the way.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether someone watches standard error on a terminal, so that a line may be redrawn.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal()
}
