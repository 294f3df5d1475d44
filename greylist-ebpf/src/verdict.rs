//! Entry and kernel time to action.
