//! Files: backends chosen by config, lists and dictionaries of lines, atomic writing.

mod atomic;
mod backend;
mod client;
mod lines;

pub use atomic::write_atomic;
pub use backend::{Backend, DiskBackend, HttpBackend, LmdbBackend, MemoryBackend, ZipBackend};
pub use client::{FileClient, FileClientConfig};
pub use lines::{dict_from_file, list_from_file};
