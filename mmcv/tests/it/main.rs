//! What outside input can do to the core: damaged files, and configs of any shape.

mod configs;
mod damaged;
