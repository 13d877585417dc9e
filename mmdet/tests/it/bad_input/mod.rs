//! What the binary makes of bad input: the exit code, one message that names the file, key or sample, no panic and nothing
//! half-written. Each test makes a small data set and trains or tests a small RetinaNet on it.

mod annotations;
mod checkpoints;
mod configs;
mod disk;
mod images;
pub mod site;
mod stopped;
