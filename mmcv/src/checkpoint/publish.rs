//! A checkpoint for others: weights and `meta`, named by the file's digest.

use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{Checkpoint, load, save};
use crate::error::{Error, Result};

/// Writes the weights and `meta` of `input` beside `output`, without the state of the run, as
/// `{stem of output}-{first 8 hex digits of its SHA-256}.{extension}`; gives that path.
pub fn publish(input: impl AsRef<Path>, output: impl AsRef<Path>) -> Result<PathBuf> {
    let output = output.as_ref();
    let whole = load(input)?;
    let plain = Checkpoint { meta: whole.meta, state_dict: whole.state_dict, ..Checkpoint::default() };
    let folder = output.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let stem = output.file_stem().and_then(|s| s.to_str());
    let extension = output.extension().and_then(|s| s.to_str());
    let (Some(stem), Some(extension)) = (stem, extension) else {
        return Err(Error::Usage(format!("{}: a file name with .pth or .safetensors is expected", output.display())));
    };
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    // Its name is known when it is written; until then it is in a folder that goes away by itself.
    let hidden = tempfile::Builder::new().prefix(".tmp-").tempdir_in(folder).map_err(|e| Error::io(folder, e))?;
    let draft = hidden.path().join(format!("draft.{extension}"));
    save(&draft, &plain)?;
    let path = folder.join(format!("{stem}-{}.{extension}", &sha256_of(&draft)?[..8]));
    std::fs::rename(&draft, &path).map_err(|e| Error::io(&path, e))?;
    Ok(path)
}

/// The SHA-256 of a file, in hex.
pub fn sha256_of(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let mut file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
    let (mut digest, mut part) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        let n = file.read(&mut part).map_err(|e| Error::io(path, e))?;
        if n == 0 {
            return Ok(digest.finalize().iter().map(|b| format!("{b:02x}")).collect());
        }
        digest.update(&part[..n]);
    }
}
