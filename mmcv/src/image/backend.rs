//! mmcv's `use_backend`: whose decoder reads where no other is asked for.

use std::sync::atomic::{AtomicU8, Ordering};

use super::ImageBackend;
use crate::error::{Error, Result};

const ALL: [ImageBackend; 6] = [
    ImageBackend::Cv2,
    ImageBackend::Pillow,
    ImageBackend::Turbojpeg,
    ImageBackend::Tifffile,
    ImageBackend::Image,
    ImageBackend::Opencv,
];

static CURRENT: AtomicU8 = AtomicU8::new(0);

/// Reads images by `backend` from now on, where no other is asked for; with [`ImageBackend::Opencv`] they are also
/// resized and written by OpenCV. Of the whole process: call it once, at the start.
pub fn use_backend(backend: ImageBackend) -> Result<()> {
    if backend == ImageBackend::Opencv && cfg!(not(feature = "opencv")) {
        return Err(Error::config(WITHOUT_OPENCV).under("image_backend"));
    }
    let at = ALL.iter().position(|b| *b == backend).unwrap_or(0);
    CURRENT.store(at as u8, Ordering::Relaxed);
    Ok(())
}

/// The backend that [`use_backend`] chose; cv2's conventions before.
pub fn current_backend() -> ImageBackend {
    ALL[usize::from(CURRENT.load(Ordering::Relaxed)) % ALL.len()]
}

/// Why the backend `opencv` is an error.
pub(super) const WITHOUT_OPENCV: &str =
    "the image backend 'opencv' is not in this binary (build it with the cargo feature `opencv`)";
