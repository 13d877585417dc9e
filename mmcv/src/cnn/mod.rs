//! Building blocks of convolutional networks, and backbones that several frameworks use.
