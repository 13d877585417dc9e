//! Tensor operations with own kernels, forward and backward.
