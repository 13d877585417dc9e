//! Images: decoding, encoding, geometry, colour, as mmcv and cv2 do it.
