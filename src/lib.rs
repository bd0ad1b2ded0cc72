//! doorward: the keeper of a Unix-domain socket.
mod admission;
