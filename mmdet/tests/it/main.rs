//! The binary and the registries, from outside.

mod cli;
mod config;
mod datasets;
mod golden;
mod registry;
