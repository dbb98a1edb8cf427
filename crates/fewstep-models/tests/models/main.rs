//! The networks, their files, schedules and sampling, from the outside: against golden values, and against files
//! that are wrong.

#![cfg(test)]

mod clip;
mod common;
mod files;
mod hostile;
mod pipeline;
mod samplers;
mod schedule;
mod tokenizer;
mod unet;
mod vae;
