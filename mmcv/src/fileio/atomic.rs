//! Writing so that a reader sees the old file or the whole new one.

use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};

/// How the names of files begin while they are written.
pub const TEMPORARY: &str = ".tmp-";

/// Writes `path` through a temporary file in the same folder, which is flushed to disk and renamed.
/// On any error (a full disk, say) an older file stays as it was and nothing half-written is left.
/// Missing parent folders are made.
pub fn write_atomic(path: &Path, fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(folder)?;
        {
            let mut out = std::io::BufWriter::with_capacity(1 << 20, file.as_file_mut());
            fill(&mut out)?;
            out.flush()?;
        }
        file.as_file().sync_all()?;
        // Temporary files are private; what we write may be read by all, as under the usual umask.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
        }
        file.persist(path).map_err(|e| e.error)?;
        Ok(())
    };
    write().map_err(|e| Error::io(path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b.txt");
        write_atomic(&path, |w| w.write_all(b"old")).unwrap();
        let failed = write_atomic(&path, |w| {
            w.write_all(b"new")?;
            Err(std::io::Error::other("disk full"))
        });
        assert!(failed.unwrap_err().to_string().contains("b.txt: disk full"));
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
