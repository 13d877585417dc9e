//! Data sets and their pipelines.
