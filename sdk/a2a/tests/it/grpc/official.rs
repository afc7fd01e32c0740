//! The official agent behind `BindingLayer`.
