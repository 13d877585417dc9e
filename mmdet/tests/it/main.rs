//! The binary and the registries, from outside.

mod cli;
mod config;
mod datasets;
mod registry;
