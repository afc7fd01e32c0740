//! The machine with chosen and with random events, and the driver over a scripted transport.

mod driver;
mod ends;
mod fixture;
mod hostile;
mod random_tasks;
mod scenario;
mod scenarios;
