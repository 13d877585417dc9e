//! Files: backends chosen by config, data files by their extension, lists and dictionaries of lines, atomic writing.

mod atomic;
mod backend;
mod client;
mod data;
mod data_serde;
mod lines;
mod load;
mod ndarray;
mod npy;
pub(crate) mod pickle;

pub use atomic::{TEMPORARY, write_atomic};
pub use backend::{Backend, DiskBackend, HttpBackend, LmdbBackend, MemoryBackend, ZipBackend};
pub use client::{FileClient, FileClientConfig};
pub use data::{Data, Key};
pub use lines::{DictValue, dict_from_file, list_from_file};
pub use load::{Format, dump, dump_bytes, dump_file, load, load_as, load_bytes};
pub(crate) use load::{mark as mark_bare_floats, marked_float, unmark_text, yaml_options};
pub use ndarray::{NdArray, NdType};
