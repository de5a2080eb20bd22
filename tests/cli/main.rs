//! The binary from outside: its contract, and what it makes of bad input.

mod bad_input;
mod data;
mod interruption;
mod place;
mod runs;
mod verify;
