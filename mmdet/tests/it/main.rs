//! The binary and the registries, from outside.

mod cli;
