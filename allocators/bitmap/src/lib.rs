//! Bitmap: first fit over a hierarchy of bits.
