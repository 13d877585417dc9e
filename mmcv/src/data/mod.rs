//! Data sets, samplers and the loader.
