//! Where bytes come from.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, RwLock};
use std::time::Duration;

use super::write_atomic;
use crate::error::{Error, Result};

/// A place to read files from.
pub trait Backend: Send + Sync {
    /// The whole content of `path`.
    fn get(&self, path: &str) -> Result<Vec<u8>>;
    /// Whether `path` is there.
    fn exists(&self, path: &str) -> bool;
    /// Stores `bytes` as `path`; most backends are for reading only.
    fn put(&self, path: &str, _: Vec<u8>) -> Result<()> {
        Err(Error::io(path, std::io::Error::new(std::io::ErrorKind::Unsupported, "its backend can't be written to")))
    }
}

/// The file system.
#[derive(Debug, Default)]
pub struct DiskBackend;

impl Backend for DiskBackend {
    fn get(&self, path: &str) -> Result<Vec<u8>> {
        std::fs::read(path).map_err(|e| Error::io(path, e))
    }
    fn exists(&self, path: &str) -> bool {
        Path::new(path).is_file()
    }
    /// Atomically: a reader sees the old file or the new one.
    fn put(&self, path: &str, bytes: Vec<u8>) -> Result<()> {
        write_atomic(Path::new(path), |w| w.write_all(&bytes))
    }
}

/// Files kept in memory, for tests and small data sets.
#[derive(Debug, Default)]
pub struct MemoryBackend(RwLock<HashMap<String, Vec<u8>>>);

impl MemoryBackend {
    /// Stores `bytes` as `path`.
    pub fn put(&self, path: &str, bytes: Vec<u8>) {
        self.0.write().unwrap_or_else(|e| e.into_inner()).insert(path.to_owned(), bytes);
    }
}

impl Backend for MemoryBackend {
    fn get(&self, path: &str) -> Result<Vec<u8>> {
        let files = self.0.read().unwrap_or_else(|e| e.into_inner());
        files.get(path).cloned().ok_or_else(|| Error::io(path, std::io::ErrorKind::NotFound.into()))
    }
    fn exists(&self, path: &str) -> bool {
        self.0.read().unwrap_or_else(|e| e.into_inner()).contains_key(path)
    }
    fn put(&self, path: &str, bytes: Vec<u8>) -> Result<()> {
        MemoryBackend::put(self, path, bytes);
        Ok(())
    }
}

/// A zip archive. Its directory is read once; each thread that reads opens the file again, so that
/// loader threads don't wait for one another.
#[derive(Debug)]
pub struct ZipBackend {
    path: PathBuf,
    idle: Mutex<Vec<zip::ZipArchive<File>>>,
}

impl ZipBackend {
    /// Opens the archive at `path`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let archive = open_zip(&path)?;
        Ok(Self { path, idle: Mutex::new(vec![archive]) })
    }

    fn with<T>(&self, f: impl FnOnce(&mut zip::ZipArchive<File>) -> Result<T>) -> Result<T> {
        let idle = self.idle.lock().unwrap_or_else(|e| e.into_inner()).pop();
        let mut archive = idle.map_or_else(|| open_zip(&self.path), Ok)?;
        let result = f(&mut archive);
        self.idle.lock().unwrap_or_else(|e| e.into_inner()).push(archive);
        result
    }
}

fn open_zip(path: &Path) -> Result<zip::ZipArchive<File>> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    zip::ZipArchive::new(file).map_err(|e| Error::data(path, format!("not a zip archive: {e}")))
}

impl Backend for ZipBackend {
    fn get(&self, name: &str) -> Result<Vec<u8>> {
        self.with(|archive| {
            let mut entry = archive.by_name(name).map_err(|e| Error::data(&self.path, format!("'{name}': {e}")))?;
            // The size in the header is not to be trusted with an allocation.
            let mut bytes = Vec::with_capacity(entry.size().min(64 << 20) as usize);
            entry.read_to_end(&mut bytes).map_err(|e| Error::data(&self.path, format!("'{name}': {e}")))?;
            Ok(bytes)
        })
    }
    fn exists(&self, name: &str) -> bool {
        self.with(|archive| Ok(archive.index_for_name(name).is_some())).unwrap_or(false)
    }
}

/// An LMDB data base whose keys are file names, as mmcv's `LmdbBackend` reads it.
pub struct LmdbBackend {
    path: PathBuf,
    env: heed::Env,
    db: heed::Database<heed::types::Bytes, heed::types::Bytes>,
}

impl LmdbBackend {
    /// Opens the data base at `path` (a folder, or a single file) read-only.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let fail = |e: heed::Error| Error::data(&path, format!("can't be read as an LMDB data base: {e}"));
        if !path.exists() {
            return Err(Error::io(&path, std::io::ErrorKind::NotFound.into()));
        }
        let mut options = heed::EnvOpenOptions::new();
        let mut flags = heed::EnvFlags::READ_ONLY | heed::EnvFlags::NO_LOCK;
        if path.is_file() {
            flags |= heed::EnvFlags::NO_SUB_DIR;
        }
        #[allow(unsafe_code)] // LMDB maps the file
        // SAFETY: the map is read-only; like any memory map it relies on nobody truncating the file meanwhile,
        // which is what opening a data set means. NO_LOCK is sound since nothing here writes.
        let env = unsafe { options.flags(flags).open(&path) }.map_err(&fail)?;
        let txn = env.read_txn().map_err(&fail)?;
        let db = env
            .open_database(&txn, None)
            .map_err(&fail)?
            .ok_or_else(|| Error::data(&path, "an LMDB environment without a main data base"))?;
        drop(txn);
        Ok(Self { path, env, db })
    }

    fn lookup<T>(&self, key: &str, found: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        let fail = |e: heed::Error| Error::data(&self.path, format!("'{key}': {e}"));
        let txn = self.env.read_txn().map_err(fail)?;
        Ok(self.db.get(&txn, key.as_bytes()).map_err(fail)?.map(found))
    }
}

impl Backend for LmdbBackend {
    fn get(&self, key: &str) -> Result<Vec<u8>> {
        self.lookup(key, <[u8]>::to_vec)?.ok_or_else(|| Error::data(&self.path, format!("no entry '{key}'")))
    }
    fn exists(&self, key: &str) -> bool {
        self.lookup(key, |_| ()).is_ok_and(|found| found.is_some())
    }
}

/// HTTP and HTTPS.
pub struct HttpBackend(ureq::Agent);

impl Default for HttpBackend {
    fn default() -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .build();
        Self(config.into())
    }
}

impl Backend for HttpBackend {
    fn get(&self, url: &str) -> Result<Vec<u8>> {
        let fail = |e: ureq::Error| Error::data(url, e.to_string());
        let mut response = self.0.get(url).call().map_err(fail)?;
        response.body_mut().with_config().limit(u64::MAX).read_to_vec().map_err(fail)
    }
    fn exists(&self, url: &str) -> bool {
        self.0.head(url).call().is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_zip_is_read_from_many_threads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.zip");
        let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
        for i in 0..20 {
            zip.start_file(format!("d/{i}.txt"), zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(i.to_string().repeat(100).as_bytes()).unwrap();
        }
        zip.finish().unwrap();
        let backend = ZipBackend::open(&path).unwrap();
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    for i in 0..20 {
                        assert_eq!(backend.get(&format!("d/{i}.txt")).unwrap(), i.to_string().repeat(100).as_bytes());
                    }
                });
            }
        });
        assert!(backend.exists("d/3.txt") && !backend.exists("d/20.txt"));
        let e = backend.get("nope").unwrap_err().to_string();
        assert!(e.contains("a.zip") && e.contains("nope"), "{e}");
    }

    #[test]
    fn what_is_no_archive_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b.zip");
        std::fs::write(&path, b"hello").unwrap();
        assert!(ZipBackend::open(&path).unwrap_err().to_string().contains("b.zip"));
        assert!(LmdbBackend::open(&path).err().unwrap().to_string().contains("b.zip"));
        assert!(LmdbBackend::open(dir.path().join("none")).err().unwrap().to_string().contains("none"));
    }

    #[test]
    fn lmdb_entries_are_read_by_name() {
        let dir = tempfile::tempdir().unwrap();
        #[allow(unsafe_code)] // LMDB maps the file
        // SAFETY: the folder is this test's own.
        let env = unsafe { heed::EnvOpenOptions::new().map_size(1 << 20).open(dir.path()) }.unwrap();
        let mut txn = env.write_txn().unwrap();
        let db: heed::Database<heed::types::Bytes, heed::types::Bytes> = env.create_database(&mut txn, None).unwrap();
        db.put(&mut txn, b"img/1.png", b"bytes").unwrap();
        txn.commit().unwrap();
        env.prepare_for_closing().wait();
        let backend = LmdbBackend::open(dir.path()).unwrap();
        assert_eq!(backend.get("img/1.png").unwrap(), b"bytes");
        assert!(!backend.exists("img/2.png"));
        assert!(backend.get("img/2.png").unwrap_err().to_string().contains("img/2.png"));
    }
}
