//! The binary and the registries, from outside.

mod coverage;
mod golden;
mod imagenet;
mod mnist;
mod registry;
