//! The binary and the registries, from outside.

mod bad_input;
mod cli;
mod config;
mod datasets;
mod golden;
mod registry;
mod train;
