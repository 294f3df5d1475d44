//! The kernel's table of sentences: a projection of the store, thrown away and rebuilt at will.
