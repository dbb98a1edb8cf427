//! The program from outside: command lines in, files, messages and exit statuses out.

#[cfg(test)]
mod common;

#[cfg(test)]
mod adapters;
#[cfg(test)]
mod cache;
#[cfg(test)]
mod canvas;
#[cfg(test)]
mod debug;
#[cfg(test)]
mod folder;
#[cfg(test)]
mod generate;
#[cfg(test)]
mod kills;
#[cfg(test)]
mod launch;
#[cfg(test)]
mod lora;
#[cfg(test)]
mod shards;
#[cfg(test)]
mod sources;
#[cfg(test)]
mod train;
#[cfg(test)]
mod usage;
