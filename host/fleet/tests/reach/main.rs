//! Devices as they are reached: over real servers of our own on the loopback interface, and over a stand-in for adb.

mod adb;
mod boards;
mod common;
mod config;
mod doctored;
mod ssh;
