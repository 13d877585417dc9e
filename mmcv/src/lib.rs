//! `mmcv`: what every framework of the family stands on.
//!
//! | module | holds |
//! |---|---|
//! | [`registry`] | `register!`, one linkme slice per kind of component, the builder |
//! | [`config`] | the node tree: TOML, YAML, JSON and OpenMMLab's `.py`, with the file and line of every value |
//! | [`fileio`] | file backends by config, atomic writing |
//! | [`cli`] | the command line that every binary shares |
//! | [`nn`] | parameters by their `state_dict` names, the forward context |
//! | [`rng`] | the one source of random numbers |
//!
//! It names no task: nothing here knows what a detector is.

pub mod cli;
pub mod config;
pub mod error;
pub mod fileio;
pub mod nn;
pub mod registry;
pub mod rng;

pub use error::{Error, Result};
pub use rng::Rng;

// The macros of `registry` expand in other crates and reach these through `$crate`.
pub use linkme;
pub use schemars;
