//! One loop, compiled twice: for the machine at hand's 256-bit integers and for any machine.

/// Defines a function whose body is compiled once for AVX2 and once without, and picks at run time. The body is plain
/// safe code for the compiler to vectorise; both give the same values, since none may fuse or reorder arithmetic.
macro_rules! vectorised {
    ($(#[$meta:meta])* fn $name:ident<$(const $g:ident: usize),*>($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        #[allow(unsafe_code)] // calls the AVX2 version where the machine has it
        fn $name<$(const $g: usize),*>($($arg: $ty),*) {
            #[inline(always)]
            fn body<$(const $g: usize),*>($($arg: $ty),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn wide<$(const $g: usize),*>($($arg: $ty),*) {
                    body::<$($g),*>($($arg),*)
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the machine has AVX2; the body is safe code.
                    return unsafe { wide::<$($g),*>($($arg),*) };
                }
            }
            body::<$($g),*>($($arg),*)
        }
    };
}

pub(super) use vectorised;
