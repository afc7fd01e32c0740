//! A2A transports over bowline's connection-aware client.
