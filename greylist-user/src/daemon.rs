//! Who is plugged into whom.
