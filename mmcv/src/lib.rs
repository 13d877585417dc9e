//! `mmcv`: what every framework of the family stands on.
//!
//! | module | holds |
//! |---|---|
//! | [`registry`] | `register!`, one linkme slice per kind of component, the builder |
//! | [`config`] | the node tree: TOML, YAML, JSON and OpenMMLab's `.py`, with the file and line of every value |
//! | [`ops`] | tensor operations with own kernels, forward and backward |
//! | [`cnn`] | blocks and backbones that several tasks share |
//! | [`image`] | decoding, encoding, geometry, colour, as mmcv and cv2 do it |
//! | [`fileio`] | file backends by config, atomic writing |
//! | [`checkpoint`] | `.pth` and `.safetensors`, load reports |
//! | [`optim`] | optimizers with PyTorch's numerics |
//! | [`runner`] | the training loop and its hooks |
//! | [`cli`] | the command line that every binary shares |
//! | [`nn`] | parameters by their `state_dict` names, the forward context |
//! | [`rng`] | the one source of random numbers |
//!
//! It names no task: nothing here knows what a detector is.

pub mod checkpoint;
pub mod cli;
pub mod cnn;
pub mod config;
pub mod error;
pub mod fileio;
pub mod image;
pub mod nn;
pub mod ops;
pub mod optim;
pub mod registry;
pub mod rng;
pub mod runner;

pub use error::{Error, Result};
pub use rng::Rng;

// The macros of `registry` expand in other crates and reach these through `$crate`.
pub use linkme;
pub use schemars;
