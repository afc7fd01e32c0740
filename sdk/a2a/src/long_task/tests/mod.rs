//! The machine in a small world, by story and at random; and the driver with a transport that acts
//! an agent out.

mod ends;
mod hostile;
mod scripted;
mod stories;
mod story;
mod theorem;
mod world;
