//! `mmcv`: what every framework of the family stands on.
//!
//! | module | holds |
//! |---|---|
//! | [`registry`] | `register!`, one linkme slice per kind of component, the builder |
//! | [`config`] | the node tree: TOML, YAML, JSON and OpenMMLab's `.py`, with the file and line of every value |
//! | [`fileio`] | file backends by config; JSON, YAML, TOML, pickle and numpy files; atomic writing |
//! | [`cli`] | the command line that every binary shares |
//! | [`image`] | decoding, encoding, geometric and photometric operations |
//! | [`ops`] | tensor operations, forward and backward |
//! | [`cnn`] | network blocks |
//! | [`data`] | data sets, samplers, the loader |
//! | [`optim`], [`runner`], [`checkpoint`] | training |
//! | [`visualization`] | drawing |
//! | [`nn`] | parameters by their `state_dict` names, the forward context |
//! | [`rng`] | the one source of random numbers |
//!
//! It names no task: nothing here knows what a detector is.

pub mod checkpoint;
pub mod cli;
pub mod cnn;
pub mod config;
pub mod data;
pub mod error;
pub mod fileio;
pub mod image;
pub mod nn;
pub mod ops;
pub mod optim;
pub mod registry;
pub mod rng;
pub mod runner;
pub mod testing;
pub mod visualization;

pub use error::{Error, Result};
pub use rng::Rng;

// The macros of `registry` expand in other crates and reach these through `$crate`.
pub use linkme;
pub use schemars;
