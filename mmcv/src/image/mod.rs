//! Images: one type, decoding and encoding, geometric and photometric operations with cv2's numbers.
//!
//! Each operation's doc says how near it is to the original; the goldens under `tests/golden/image` hold it to that.
//! All run on the calling thread: the loader's workers are what runs in parallel.

mod backend;
mod clahe;
mod colorspace;
mod decode;
mod encode;
mod geometric;
#[cfg(test)]
mod golden;
#[cfg(feature = "turbojpeg")]
mod jpeg;
mod layout;
mod normalize;
#[cfg(feature = "opencv")]
mod opencv;
mod options;
mod orientation;
mod palette;
mod photometric;
mod resize;
mod simd;
mod types;
mod warp;

pub use backend::{current_backend, use_backend};
pub use clahe::clahe;
pub use colorspace::{
    bgr2gray, bgr2hls, bgr2hsv, bgr2rgb, bgr2ycbcr, gray2bgr, hls2bgr, hsv2bgr, rgb2bgr, rgb2gray, rgb2ycbcr,
    ycbcr2bgr, ycbcr2rgb,
};
pub use decode::{MAX_PIXELS, imfrombytes, imfrombytes_of, imread};
pub use encode::{JPEG_QUALITY, imencode, imwrite};
pub use geometric::{crop, cutout, imcrop, imflip, impad, impad_to_multiple, pad};
pub use normalize::{imdenormalize, imnormalize, normalize_to_chw, normalize_to_chw_into};
pub use options::{ChannelOrder, ColorFlag, ImageBackend, Interpolation, PadMode, Scale};
pub use photometric::{
    adjust_brightness, adjust_color, adjust_contrast, adjust_hue, adjust_lighting, adjust_sharpness, auto_contrast,
    filter2d, imequalize, iminvert, lut_transform, posterize, solarize,
};
pub use resize::{
    PillowInterpolation, imrescale, imresize, imresize_like, imresize_pillow, imresize_to_multiple, rescale_size,
};
pub use types::{FlipDirection, Image, Pixels};
pub use warp::{BorderMode, Warp, imrotate, imshear, imtranslate, warp_affine, warp_perspective};
