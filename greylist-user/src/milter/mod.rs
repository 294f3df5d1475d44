//! milter.
