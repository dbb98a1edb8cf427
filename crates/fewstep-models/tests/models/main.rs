//! The networks and their files, from the outside: against golden values, and against files that are wrong.

#![cfg(test)]

mod clip;
mod common;
mod files;
mod hostile;
mod tokenizer;
mod unet;
mod vae;
