//! Drawing on images, and plots.
