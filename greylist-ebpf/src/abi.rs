//! Map keys and values as both sides see them, map names, counter indices, the ABI version.
