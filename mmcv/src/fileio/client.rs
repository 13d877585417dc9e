//! `file_client_args`: which backend a path is read from.

use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::backend::{Backend, DiskBackend, HttpBackend, LmdbBackend, MemoryBackend, ZipBackend};
use crate::error::{Error, Result};

/// `file_client_args=dict(backend='disk')`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(tag = "backend", rename_all = "snake_case", deny_unknown_fields)]
pub enum FileClientConfig {
    /// The file system; `http://` and `https://` paths are fetched.
    #[default]
    Disk,
    /// Files kept in memory.
    Memory,
    /// HTTP and HTTPS only.
    Http,
    /// An LMDB data base whose keys are the paths.
    Lmdb {
        /// The data base's folder or file.
        db_path: PathBuf,
    },
    /// A zip archive whose entries are the paths.
    Zip {
        /// The archive.
        path: PathBuf,
    },
}

/// Reads files through a backend. Cheap to clone; all clones share the backend's handles.
#[derive(Clone)]
pub struct FileClient {
    backend: Arc<dyn Backend>,
    /// Backends of other prefixes; the longest that fits wins.
    prefixes: Vec<(String, Arc<dyn Backend>)>,
}

impl Default for FileClient {
    fn default() -> Self {
        let http: Arc<dyn Backend> = Arc::new(HttpBackend::default());
        Self {
            backend: Arc::new(DiskBackend),
            prefixes: vec![("https://".into(), http.clone()), ("http://".into(), http)],
        }
    }
}

impl FileClient {
    /// The client that `cfg` asks for.
    pub fn new(cfg: &FileClientConfig) -> Result<Self> {
        let backend: Arc<dyn Backend> = match cfg {
            FileClientConfig::Disk => return Ok(Self::default()),
            FileClientConfig::Memory => Arc::new(MemoryBackend::default()),
            FileClientConfig::Http => Arc::new(HttpBackend::default()),
            FileClientConfig::Lmdb { db_path } => Arc::new(LmdbBackend::open(db_path)?),
            FileClientConfig::Zip { path } => Arc::new(ZipBackend::open(path)?),
        };
        Ok(Self { backend, prefixes: Vec::new() })
    }

    /// Reads paths that start with `prefix` from `backend`.
    #[must_use]
    pub fn with_prefix(mut self, prefix: &str, backend: Arc<dyn Backend>) -> Self {
        self.prefixes.push((prefix.to_owned(), backend));
        self.prefixes.sort_by_key(|(p, _)| std::cmp::Reverse(p.len()));
        self
    }

    fn backend(&self, path: &str) -> &dyn Backend {
        let prefixed = self.prefixes.iter().find(|(prefix, _)| path.starts_with(prefix));
        prefixed.map_or(&*self.backend, |(_, b)| &**b)
    }

    /// The whole content of `path`.
    pub fn get(&self, path: &str) -> Result<Vec<u8>> {
        self.backend(path).get(path)
    }

    /// The content of `path` as UTF-8 text.
    pub fn get_text(&self, path: &str) -> Result<String> {
        String::from_utf8(self.get(path)?).map_err(|e| Error::data(path, format!("not UTF-8 text: {e}")))
    }

    /// Stores `bytes` as `path`: on disk atomically, in memory; the other backends are for reading.
    pub fn put(&self, path: &str, bytes: Vec<u8>) -> Result<()> {
        self.backend(path).put(path, bytes)
    }

    /// Whether `path` is there.
    pub fn exists(&self, path: &str) -> bool {
        self.backend(path).exists(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Node;

    #[test]
    fn the_longest_prefix_wins() {
        let (a, b) = (Arc::new(MemoryBackend::default()), Arc::new(MemoryBackend::default()));
        a.put("s3://x/y/1", vec![1]);
        b.put("s3://x/y/1", vec![2]);
        let client = FileClient::default().with_prefix("s3://", a).with_prefix("s3://x/", b);
        assert_eq!(client.get("s3://x/y/1").unwrap(), [2]);
    }

    #[test]
    fn an_unknown_backend_is_an_error_that_lists_them() {
        let node = Node::from_json(r#"{"backend": "disc"}"#).unwrap();
        let e = node.parse::<FileClientConfig>().unwrap_err().to_string();
        assert!(e.contains("did you mean 'disk'") && e.contains("'lmdb'"), "{e}");
    }

    #[test]
    fn a_missing_file_is_named() {
        assert!(FileClient::default().get("no/such/file").unwrap_err().to_string().contains("no/such/file"));
    }
}
