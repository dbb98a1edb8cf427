//! The networks and their files, the schedule and its samplers, from the outside: against golden values, and
//! against files that are wrong. One program for all, since each links LibTorch anew.

#![cfg(test)]

mod adapted;
mod canvas;
mod clip;
mod common;
mod files;
mod hostile;
mod links;
mod lora;
mod pipeline;
mod samplers;
mod schedule;
mod tokenizer;
mod unet;
mod vae;
