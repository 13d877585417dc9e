//! CNN blocks and backbones that several tasks share.
