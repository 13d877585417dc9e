//! The binary and the registries, from outside.

mod golden;
mod imagenet;
mod mnist;
mod registry;
