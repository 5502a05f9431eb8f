//! The built program against a server of these tests: TLS and WebSocket by other hands, real processes, real terminals.

mod help;
mod server;
mod session;
mod speed;
mod terminal;
