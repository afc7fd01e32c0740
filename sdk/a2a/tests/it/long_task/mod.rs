//! A long task over real connections that are cut, ended and sent away: each state once, one
//! signature for each connection.

mod cuts;
mod fixture;
mod minute;
mod python;
