//! The binary from outside: its contract, and how it handles bad input.

mod bad_input;
mod classes;
mod data;
mod interruption;
mod labels;
mod place;
mod processes;
mod remedies;
mod runs;
mod side;
mod strangers;
mod verify;
