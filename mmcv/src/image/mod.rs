//! Images: one type, decoding and encoding, geometric and photometric operations with cv2's numbers.

mod types;

pub use types::{FlipDirection, Image, Pixels};
