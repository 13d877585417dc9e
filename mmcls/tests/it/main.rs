//! The binary and the registries, from outside.

mod golden;
mod mnist;
mod registry;
